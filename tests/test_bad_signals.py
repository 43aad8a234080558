"""Recordings and sensors as they really come: read right whatever their format, or counted as a problem."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile

FORMATS = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


def tone(high: bool, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.02, 2400)
    return 0.4 * np.sin(2 * np.pi * (1500 if high else 300) * np.arange(2400) / 8000) + noise


def wav(signal: np.ndarray, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, signal, 8000, format="WAV", subtype=subtype)
    return file.getvalue()


def sensor(high: bool, seed: int, channels: int = 2) -> list[list[float | None]]:
    steps = np.random.default_rng(seed).normal(2.0 if high else -2.0, 1, (20 + seed % 7, channels))
    results: list[list[float | None]] = steps.tolist()
    return results


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"voice": wav(tone(i % 2 == 1, i), FORMATS[i % 6]), "motion": sensor(i % 2 == 1, i), "y": "ab"[i % 2]}
        for i in range(count)
    ]


def spoilt(count: int) -> list[dict[str, Any]]:
    """The same with a foreign sensor, a sensor that fails once, and a recording of nothing."""
    some = rows(count)
    some[5]["motion"] = sensor(True, 5, channels=3)
    some[6]["motion"][3][1] = None
    some[8]["voice"] = wav(np.full(500, np.nan), "FLOAT")
    return some


@pytest.fixture(scope="module")
def model(quick_fit: Any) -> Any:
    """A recipe that asks for MFCC with deltas from sound of six formats, and for statistics of a sensor with gaps told."""
    voice = {"kind": "audio", "features": "mfcc", "deltas": 1, "denoise": "wiener", "trim_db": 50.0}
    columns = {"voice": voice, "motion": {"kind": "series", "indicator": True, "gap": 8}}
    overrides = ["training.epochs=8", "model.encoders.motion=statistics"]
    return quick_fit(spoilt(60), target="y", ignore=[], columns=columns, overrides=overrides)


def test_what_cannot_be_read_is_counted(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    report = model.evaluate(spoilt(20))
    stderr = capsys.readouterr().err
    assert stderr.count("1 cell could not be used") == 2
    assert "row 6, column 'motion': the series has 3 channels, in training they had 2" in stderr
    assert "row 9, column 'voice': <bytes>: the recording has values that are not finite" in stderr
    assert report.targets["y"].metrics["accuracy"] > 0.9


@pytest.mark.parametrize("subtype", FORMATS)
def test_every_wav_is_read_right(model: Any, subtype: str) -> None:
    for high in (False, True):
        clean = model.predict([{"voice": wav(tone(high, 90), "PCM_16")}])[0]
        results = model.predict([{"voice": wav(tone(high, 90), subtype)}])[0]
        assert results.problems == []
        off = 0.15 if subtype == "PCM_U8" else 1e-3  # 8 bits are coarse beside this noise
        assert results.targets["y"]["probabilities"] == pytest.approx(clean.targets["y"]["probabilities"], abs=off)


def test_a_failing_sensor_is_read_and_a_foreign_one_counted(model: Any) -> None:
    good = sensor(True, 77)
    broken = [[None, None] if 4 < i < 9 else step for i, step in enumerate(good)]
    dead = [[None, None] for _ in good]
    foreign = sensor(True, 77, channels=5)
    text = [["a", 1.0]]
    results = model.predict([{"motion": cell} for cell in (good, broken, dead, foreign, text)])
    assert [len(prediction.problems) for prediction in results] == [0, 0, 0, 1, 1]
    assert "5 channels" in results[3].problems[0].problem
    assert results[0].targets["y"]["value"] == results[1].targets["y"]["value"]
    for prediction in results:
        assert np.isfinite(list(prediction.targets["y"]["probabilities"].values())).all()


def test_sound_that_is_not_finite_or_cut_short_is_counted(model: Any) -> None:
    whole = wav(tone(True, 3), "PCM_24")
    nan = tone(True, 3)
    nan[7] = np.nan
    results = model.predict([{"voice": cell} for cell in (wav(nan, "FLOAT"), whole[:-900], whole[:20], whole)])
    assert [len(prediction.problems) for prediction in results] == [1, 1, 1, 0]

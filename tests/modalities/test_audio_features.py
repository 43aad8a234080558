"""Recordings prepared with each front end, cleaned, cut and varied: in a batch, as alone, and against librosa."""

from __future__ import annotations

import io
import json
import warnings
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.core.modality import Blob
from sensorium.core.registry import build
from sensorium.modalities.audio import Audio
from sensorium.signal.front_ends import Features
from sensorium.signal.mel import fft_size

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa

ALL = get_args(Features)
FRAMED = [kind for kind in ALL if kind != "waveform"]


def tone(seconds: float, hz: float = 440.0, seed: int = 0) -> np.ndarray:
    count = round(seconds * 8000)
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(count) / 8000) + np.random.default_rng(seed).normal(0, 0.02, count)
    return wave.astype(np.float32)


def wav(signal: np.ndarray) -> Blob:
    file = io.BytesIO()
    soundfile.write(file, signal, 8000, format="WAV", subtype="PCM_16")
    return Blob(file.getvalue(), "a.wav")


CELLS = [wav(tone(0.3 + 0.05 * i, 200 + 150 * i, i)) for i in range(8)]


def fitted(cells: list[Any] = CELLS, **options: Any) -> Audio:
    audio: Audio = build("modalities", {"kind": "audio", **options})  # as a recipe does
    audio.fit(cells)
    json.dumps(audio.state, allow_nan=False)
    return audio


@pytest.mark.parametrize("features", ALL)
@pytest.mark.parametrize("more", [{}, {"deltas": 2}, {"denoise": "wiener"}, {"trim_db": 40.0}], ids=str)
def test_rows_are_what_they_are_alone(features: str, more: dict[str, Any]) -> None:
    if features == "waveform" and "deltas" in more:
        pytest.skip("a waveform has no deltas")
    audio = fitted(features=features, **more)
    arrays = [audio.encode(cell) for cell in (CELLS[0], CELLS[-1])]
    both = audio.prepare(audio.collate([arrays[0], None, arrays[1]]))
    alone = audio.prepare(audio.collate([arrays[0]]))
    layout = audio.layout
    assert isinstance(layout, Grid)
    assert both.mask is not None
    assert alone.mask is not None
    assert both.data.shape[1] == layout.channels == 1 + more.get("deltas", 0)
    assert both.data.shape[3:] == layout.size[1:]
    assert both.data.shape[2] <= layout.size[0]
    assert both.data.isfinite().all()
    assert not both.data.movedim(2, 1)[~both.mask].any()
    count = int(alone.mask.sum())
    assert both.mask.sum(dim=1).tolist()[:2] == [count, 0]
    torch.testing.assert_close(both.data[0, :, :count], alone.data[0], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("features", ALL)
def test_features_are_standardised(features: str) -> None:
    audio = fitted(features=features, deltas=0 if features == "waveform" else 1, seconds=1.0)
    field = audio.prepare(audio.collate([audio.encode(cell) for cell in CELLS]))
    assert field.mask is not None
    real = field.data.movedim(2, 1)[field.mask].flatten(1)
    assert real.mean(dim=0).abs().max() < 0.02
    spread = real.std(dim=0, correction=0)
    assert (((spread - 1).abs() < 0.05) | (spread < 1e-3)).all()


@pytest.mark.parametrize("features", ALL)
def test_features_can_stay_what_they_are(features: str) -> None:
    standard, raw = fitted(features=features), fitted(features=features, standardise=False)
    field = standard.collate([standard.encode(cell) for cell in CELLS])
    one, other = standard.prepare(field), raw.prepare(field)
    mean, deviation = (torch.tensor(standard.state[key]) for key in ("mean", "deviation"))
    assert one.mask is not None
    mine, its = (inputs.data.movedim(2, 1)[one.mask].flatten(1) for inputs in (one, other))
    torch.testing.assert_close(mine * deviation + mean, its, rtol=1e-3, atol=1e-3)


def test_mfcc_is_librosas() -> None:
    audio = fitted(features="mfcc", coefficients=12)
    cell = CELLS[3]
    data = audio.prepare(audio.collate([audio.encode(cell)])).data[0, 0]
    ours = data * torch.tensor(audio.state["deviation"]) + torch.tensor(audio.state["mean"])
    signal, _ = soundfile.read(io.BytesIO(cell.data), dtype="float32")
    size = fft_size(8000, 200, 40)
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200), (0, size - 200))
    bands = librosa.feature.melspectrogram(
        y=np.pad(signal, (0, size)), sr=8000, n_fft=size, hop_length=80, window=window, center=False, n_mels=40
    )
    theirs = librosa.feature.mfcc(S=np.log(bands + 1e-6), n_mfcc=12).T
    np.testing.assert_allclose(ours, theirs[: len(ours)], rtol=1e-4, atol=1e-3)


def test_coefficients() -> None:
    for features in ("mfcc", "plp", "rasta_plp"):
        for count, inputs in ((13, None), (6, 6)):
            layout = fitted(features=features, coefficients=inputs).layout
            assert isinstance(layout, Grid)
            assert layout.size[1] == count
    slow = fitted(features="plp", rate=1000)
    assert slow.state["coefficients"] == 6
    with pytest.raises(ConfigError, match="at most 17 coefficients"):
        fitted(features="plp", coefficients=30)
    bad: dict[str, Any]
    for bad in (
        {"coefficients": 5},
        {"features": "mfcc", "coefficients": 0},
        {"deltas": 3},
        {"features": "waveform", "deltas": 1},
        {"trim_db": 0.0},
        {"speed": 0.9},
        {"snr_db": 500.0},
    ):
        with pytest.raises(ConfigError, match="audio"):
            Audio(**bad)


def test_silence_at_the_ends_is_cut_before_the_length_is() -> None:
    quiet = np.zeros(8000, np.float32)
    cells = [wav(np.concatenate([quiet, tone(0.4, seed=i), quiet])) for i in range(4)]
    audio = fitted(cells, trim_db=30.0)
    assert audio.state["length"] == pytest.approx(3200, abs=400)
    whole = fitted(cells)
    assert whole.state["length"] == 19200
    signal = audio.encode(cells[0])
    assert np.abs(signal[:400]).max() > 5000
    assert audio.store_options != whole.store_options
    assert len(audio.encode(wav(quiet))) == audio.state["length"]  # nothing but silence stays what it is


def test_noise_is_turned_down() -> None:
    rng = np.random.default_rng(0)
    clean = np.concatenate([np.zeros(4000), tone(0.5), np.zeros(4000)]).astype(np.float32)
    noisy = (clean + rng.normal(0, 0.05, len(clean))).astype(np.float32)
    plain, cleaned = (fitted([wav(noisy)] * 2, features="waveform", denoise=how) for how in ("none", "gate"))

    def silence(audio: Audio) -> float:
        data = audio.prepare(audio.collate([audio.encode(wav(noisy))])).data[0, 0] * audio.state["deviation"][0]
        return float(data[:3500].square().mean())

    assert silence(cleaned) < 0.2 * silence(plain)


@pytest.mark.parametrize("features", ALL)
def test_training_varies_speed_and_noise(features: str) -> None:
    audio = fitted(features=features, augment="none", speed=0.2, snr_db=5.0)
    field = audio.collate([audio.encode(cell) for cell in CELLS] + [None])
    plain = audio.prepare(field)
    one, same, other = (audio.prepare(field, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.data, same.data)
    assert not torch.equal(one.data, other.data)
    assert plain.mask is not None
    assert one.mask is not None
    assert one.data.shape == plain.data.shape
    assert one.data.isfinite().all()
    lengths, before = one.mask.sum(dim=1), plain.mask.sum(dim=1)
    assert not torch.equal(lengths, before)
    assert ((lengths <= before * 1.3 + 1) & (lengths >= before * 0.8 - 1)).all()
    assert not one.data.movedim(2, 1)[~one.mask].any()


@pytest.mark.parametrize("features", FRAMED)
def test_what_is_hidden_in_training_is_hidden_in_every_channel(features: str) -> None:
    audio = fitted(features=features, deltas=1, augment="strong")
    field = audio.collate([audio.encode(cell) for cell in CELLS])
    data = audio.prepare(field, torch.Generator().manual_seed(0)).data
    gone = (data == 0).all(dim=3)
    assert torch.equal(gone[:, 0], gone[:, 1])
    assert gone.any()

"""The synthetic data set: reproducible, and no modality alone determines the event."""

from __future__ import annotations

import csv
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import ConfigError
from sensorium.data.synthetic import COST, EVENTS, MODALITIES, TAGS, ceiling, make, story


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_two_modalities_determine_the_event_and_one_does_not() -> None:
    for states in MODALITIES.values():
        assert sorted(e for pair in states.values() for e in pair) == sorted(EVENTS)
    for a, b in combinations(MODALITIES, 2):
        for event in EVENTS:
            (one,) = (set(pair) for pair in MODALITIES[a].values() if event in pair)
            (other,) = (set(pair) for pair in MODALITIES[b].values() if event in pair)
            assert one & other == {event}


def test_best_possible_accuracy() -> None:
    plot = story(4000, seed=3)
    assert ceiling(plot) > 0.97
    for sense in MODALITIES:
        assert 0.4 < ceiling(plot, [sense]) < 0.55
    assert ceiling(plot, list(MODALITIES)[:2]) < ceiling(plot, list(MODALITIES)[:3]) < ceiling(plot)


def test_missing_and_wrong_shares_are_as_requested() -> None:
    plot = story(4000, seed=3, holes=0.2, noise=0.1)
    for sense, states in plot.seen.items():
        assert states.count(None) / 4000 == pytest.approx(0.2, abs=0.03)
        wrong = [e not in MODALITIES[sense][s] for e, s in zip(plot.events, states, strict=True) if s is not None]
        assert np.mean(wrong) == pytest.approx(0.1, abs=0.02)
    clean = story(100, holes=0, noise=0)
    assert ceiling(clean, ["note", "sound"], noise=1e-6) == 1


def test_files(tmp_path: Path) -> None:
    from PIL import Image

    soundfile = pytest.importorskip("soundfile")
    paths = make(tmp_path / "a", rows=60, seed=5, targets=("event", "cost", "tags"))
    rows = {name: read(path) for name, path in paths.items()}
    assert {name: len(results) for name, results in rows.items()} == {"train": 39, "valid": 9, "test": 12}
    every = [row for results in rows.values() for row in results]
    assert Counter(row["event"] for row in every) == dict.fromkeys(EVENTS, 10)
    assert list(every[0]) == ["when", "room", "photo", "note", "sound", "sensor", "temperature", "event", "cost", "tags"]
    for column in ("photo", "note", "sound", "sensor", "temperature", "room"):
        assert 0 < sum(row[column] == "" for row in every) < 25
    for row in every:
        if row["photo"]:
            with Image.open(tmp_path / "a" / row["photo"]) as picture:
                assert (picture.size, picture.mode) == ((48, 48), "RGB")
        if row["sound"]:
            wave, rate = soundfile.read(tmp_path / "a" / row["sound"])
            assert (wave.shape, rate) == ((4800,), 8000)
            assert 0.1 < np.abs(wave).max() <= 1
        if row["sensor"]:
            series = np.loadtxt(tmp_path / "a" / row["sensor"], delimiter=",", skiprows=1)
            assert series.shape == (96, 3)
    make(tmp_path / "b", rows=60, seed=5, targets=("event", "cost", "tags"))
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    make(tmp_path / "c", rows=60, seed=6)
    assert read(tmp_path / "c" / "train.csv") != rows["train"]
    assert list(read(tmp_path / "c" / "train.csv")[0])[-1] == "event"


def test_targets_follow_from_the_event(tmp_path: Path) -> None:
    rows = read(make(tmp_path, rows=150, valid=0, test=0, targets=("event", "cost", "tags"))["train"])
    assert len(rows) == 150
    forgotten = 0
    for row in rows:
        assert 0.84 < float(row["cost"]) / COST[row["event"]] < 1.16
        tags = row["tags"].split("; ")
        assert all(row["event"] in TAGS[tag] for tag in tags)
        forgotten += sum(row["event"] in events for events in TAGS.values()) - len(tags)
    assert 3 < forgotten < 35


def test_simple_rules_read_each_modality(tmp_path: Path) -> None:
    """The states can be read from the files by one-line rules, hence by a model."""
    from sensorium.data import synthetic_cells

    rng = np.random.default_rng(0)

    def accuracy(sense: str, rule: object, make: object) -> float:
        cases = [(state, rule(make(state, rng))) for state in MODALITIES[sense] for _ in range(60)]  # type: ignore[operator]
        return float(np.mean([state == predicted for state, predicted in cases]))

    def hear(wave: np.ndarray) -> str:
        power = np.abs(np.fft.rfft(wave)) ** 2
        high = power[540:].sum() / power.sum()
        flat = np.exp(np.log(power + 1e-12).mean()) / power.mean()
        return "rush" if flat > 0.15 else "ring" if high > 0.5 else "melody"

    def feel(series: np.ndarray) -> str:
        wave = series - series.mean(axis=0)
        power = (np.abs(np.fft.rfft(wave, axis=0)) ** 2).sum(axis=1)
        low = power[:5].sum() / power.sum()
        return "sway" if low > 0.6 else "buzz" if power.max() / power.sum() > 0.3 else "steps"

    def look(picture: np.ndarray) -> str:
        light = picture.astype(float).mean(axis=2)
        if (np.abs(np.diff(light, axis=1)) > 40).sum() > 100:
            return "stripes"
        return "cloud" if light.max() - np.median(light) > np.median(light) - light.min() else "figure"

    def read_note(text: str) -> str:
        return max(
            MODALITIES["note"], key=lambda state: sum(word in text.lower() for word in synthetic_cells._WORDS[state])
        )

    assert accuracy("sound", hear, synthetic_cells.sound) > 0.95
    assert accuracy("sensor", feel, synthetic_cells.vibration) > 0.9
    assert accuracy("photo", look, synthetic_cells.photo) > 0.9
    assert accuracy("note", read_note, synthetic_cells.note) > 0.95
    degrees = accuracy(
        "temperature", lambda t: "cold" if t < 17.5 else "mild" if t < 22.5 else "warm", synthetic_cells.temperature
    )
    assert degrees > 0.95


def test_damage(tmp_path: Path) -> None:
    whole, broken = make(tmp_path / "a", rows=40), make(tmp_path / "b", rows=40, damage=True)
    assert whole["train"].read_bytes() == broken["train"].read_bytes()
    rows = read(broken["train"])
    missing = [r["photo"] for r in rows if r["photo"] and not (tmp_path / "b" / r["photo"]).exists()]
    empty = [r["sound"] for r in rows if r["sound"] and not (tmp_path / "b" / r["sound"]).stat().st_size]
    assert (len(missing), len(empty)) == (1, 1)


def test_invalid_arguments(tmp_path: Path) -> None:
    for wrong in ({"rows": 0}, {"holes": 1.0}, {"valid": 0.6, "test": 0.5}, {"targets": ("evnt",)}):
        with pytest.raises(ConfigError):
            make(tmp_path, **wrong)  # type: ignore[arg-type]

"""What labelling, forecasting and survival share with every task: resumed bit for bit, served, robust, live labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_activities import make as make_activities
from sensorium.data.synthetic_meters import make as make_meters
from sensorium.predictor import Predictor
from sensorium.streaming import live_client
from sensorium.streaming.stream_session import Setup

KINDS = ("labelling", "forecasting", "survival")
TARGET = {"labelling": "labels", "forecasting": "load", "survival": "survival"}


def patients(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    with (folder / "patients.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "note", "days", "died"])
        for i in range(120):
            age = draw.normal()
            days = draw.exponential(np.exp(-age))
            writer.writerow([f"{age:.3f}" if i % 9 else "", "ill" if age > 0 else "well", f"{days:.4f}", i % 3 and 1])
    return folder / "patients.csv"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    return {
        "labelling": make_activities(folder / "activities", rows=24, holes=0.1, test=0.0)["train"],
        "forecasting": make_meters(folder / "meters", rows=8, test=0.0)["train"],
        "survival": patients(folder),
    }


@pytest.fixture(scope="module")
def fits(tables: dict[str, Path]) -> dict[str, Callable[..., Any]]:
    """By task, what trains a tiny model for two epochs."""
    tiny = ["model.size=tiny", "training.epochs=2"]
    windows = {"horizon": 4, "time": "time", "series": "meter", "past": 12, "stride": 4}
    options: dict[str, dict[str, Any]] = {
        "labelling": {
            "target": "labels",
            "options": {"causal": True},
            "overrides": [
                *tiny,
                "columns.labels.on=motion",
                "columns.motion={kind: series, length: 120}",
                "model.encoders.motion=tcn",
            ],
        },
        "forecasting": {"target": "load", "options": windows, "overrides": tiny},
        "survival": {"target": {"time": "days", "event": "died"}, "overrides": tiny},
    }
    return {
        kind: lambda kind=kind, **more: sm.fit(tables[kind], **options[kind], task=kind, quiet=True, **more)
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def runs(fits: dict[str, Callable[..., Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for kind, fit in fits.items():
        fit(out=folder / kind)
    return {kind: folder / kind for kind in KINDS}


def rows_of(kind: str, run: Path, source: Path) -> list[dict[str, Any]]:
    """A few rows as a client sends them."""
    model = sm.load(run)
    table = model.windows(sm.Table.read(source)).take(range(3))
    rows = []
    for row in table.rows():
        cells = {name: row[name] for name in (c.name for c in model.schema.inputs) if row.get(name) is not None}
        if kind == "labelling":
            cells = {name: np.load(source.parent / cell).tolist() for name, cell in cells.items() if cell}
        rows.append({name: np.where(np.isnan(cell), None, cell).tolist() if isinstance(cell, np.ndarray) else cell
                     for name, cell in cells.items()})  # fmt: skip
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_training_resumes_bit_identically(
    kind: str, fits: Any, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensorium.training.callbacks import Checkpoint

    real = Checkpoint.on_train_epoch_end

    def stop(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_epoch_end", stop)
        with pytest.raises(BaseException):  # noqa: B017 - however the trainer passes it on
            fits[kind](out=tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()
    fits[kind](out=tmp_path / "run", resume=True)
    for name in ("model.safetensors", "recipe.yaml", "schema.json"):
        assert (tmp_path / "run" / name).read_bytes() == (runs[kind] / name).read_bytes(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_answers_like_the_predictor(kind: str, runs: dict[str, Path], tables: dict[str, Path]) -> None:
    pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")
    from starlette.testclient import TestClient

    from sensorium.serve.app import create

    predictor = Predictor(sm.load(runs[kind]).artifact, device="cpu")
    rows = [*rows_of(kind, runs[kind], tables[kind]), {}]
    with TestClient(create({"model": predictor}), base_url="http://localhost") as client:
        answers = client.post("/predict", json={"rows": rows}).json()["predictions"]
    for answer, expected in zip(answers, predictor.predict(rows, batch_invariant=True), strict=True):
        assert answer["targets"] == json.loads(json.dumps(expected.to_json()["targets"]))
    nothing = answers[-1]["targets"][TARGET[kind]]
    if kind == "labelling":
        assert (nothing["value"], nothing["confidence"]) == ([], 0.0)
        assert "motion" in answers[-1]["missing"]
    else:
        assert np.isfinite(np.array(nothing["value"], dtype=float)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_robustness_is_measured(kind: str, runs: dict[str, Path], tables: dict[str, Path]) -> None:
    model = sm.load(runs[kind])
    source = sm.Table.read(tables[kind])
    if kind == "forecasting":
        later = [{**row, "time": row["time"].replace("2024-01-0", "2024-01-1")} for row in source.rows()]
        source = sm.Table.read([*source.rows(), *later])
    else:
        source = source.take(range(24))
    result = model.robustness(source)[TARGET[kind]]
    assert {curve.stream for curve in result.curves} == set(model.model.streams)
    assert all(np.isfinite(curve.scores[0]) for curve in result.curves)


def test_live_labels_cover_the_stream_once_with_a_bounded_delay(runs: dict[str, Path]) -> None:
    model = sm.load(runs["labelling"])
    signal = np.abs(np.random.default_rng(0).normal(1, 0.5, (90, 3))).astype(np.float32)
    setup = Setup(column="motion", rate=2.0, seconds=15.0, hop=1.0, delay=3.0, keep=True)
    *answers, end = live_client.predict_locally(model.predictor, setup, live_client.split(signal, 2))
    assert [answer["settled"] for answer in answers] == [12.0 + k for k in range(31)]
    spans = [span for answer in answers for span in answer["labels"]["labels"]] + end["summary"]["labels"]["labels"]
    assert spans[0][0] == 0.0
    assert spans[-1][1] == 45.0
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    # What settles with a window is what the window says of that time.
    (want,) = model.predict([{"motion": signal[20:50]}])
    inside = [[max(a / 2 + 10, 21), min(b / 2 + 10, 22), name] for a, b, name in want.targets["labels"]["value"]]
    assert answers[10]["labels"]["labels"] == [span for span in inside if span[0] < span[1]]
    with pytest.raises(ConfigError, match="not shorter than a window"):
        list(live_client.predict_locally(model.predictor, Setup("motion", 2.0, 15.0, 1.0, delay=20.0), []))

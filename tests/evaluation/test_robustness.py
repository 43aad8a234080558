"""Robustness curves under missing and corrupted streams."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.data.corrupted_stream import Corrupted, supported_corruptions
from sensorium.evaluation.robustness import REMOVAL, STEPS, area, references, robustness


def test_area_is_the_trapezoid_of_the_relative_score() -> None:
    steps, scores = [0.0, 0.25, 0.5, 1.0], [0.8, 0.6, 0.4, 0.2]
    assert area(steps, scores, True) == pytest.approx(np.trapezoid(np.array(scores) / 0.8, steps))
    assert area(steps, [2.0, 3.0, 4.0, 8.0], False) == pytest.approx(np.trapezoid([1, 2 / 3, 1 / 2, 1 / 4], steps))
    assert area(steps, [0.7] * 4, True) == pytest.approx(1.0)
    assert isnan(area(steps, [0.0, 0.1, 0.1, 0.1], True))
    assert isnan(area(steps, [0.5, float("nan"), 0.1, 0.1], True))


@pytest.fixture(scope="module")
def encoded(trained: Any, scenes: Path) -> Any:
    from sensorium.data.tables.table import Table

    return trained.encode(Table.read(scenes / "test.csv"))


def test_corruption_of_a_row_does_not_depend_on_its_batch(trained: Any, encoded: Any) -> None:
    for stream, columns in trained.schema.streams.items():
        for how in supported_corruptions(columns):
            source = Corrupted(encoded.inputs[stream], columns, how, 0.5, seed=3)
            whole, part = source.gather(np.arange(8)), source.gather(np.array([5, 2]))
            for i, row in enumerate((5, 2)):
                length = part.data.shape[1] if part.mask is None else int(part.mask[i].sum())
                assert torch.equal(part.data[i, :length], whole.data[row, :length]), (stream, how)
            clean = encoded.inputs[stream].gather(np.arange(8))
            assert whole.data.shape != clean.data.shape or not torch.equal(whole.data, clean.data), f"{how} spoils nothing"
            assert torch.equal(whole.present, encoded.inputs[stream].gather(np.arange(8)).present)


def test_tabular_cells_are_corrupted_independently(trained: Any, encoded: Any) -> None:
    columns = trained.schema.streams["table"]
    index = np.arange(len(encoded))
    clean, spoiled = (
        encoded.inputs["table"].gather(index),
        Corrupted(encoded.inputs["table"], columns, "noise", 1.0).gather(index),
    )
    changed = (clean.data != spoiled.data).any(dim=0)
    start = 0
    for column in columns:
        width = len(column.reader.blank())
        assert bool(changed[start : start + width].any()) == ("noise" in column.reader.corruptions), column.name
        start += width
    assert torch.equal(clean.data[~clean.mask], spoiled.data[~clean.mask]), "a missing cell is not spoiled"


def test_curves_start_clean_and_end_without_the_stream(trained: Any, scenes: Path, encoded: Any) -> None:
    result = robustness(trained.predictor.model, trained.schema, encoded)["event"]
    whole = trained.evaluate(scenes / "test.csv").targets["event"]
    assert result.metric == "accuracy"
    for curve in result.curves:
        assert curve.steps == STEPS
        assert curve.scores[0] == pytest.approx(whole.metrics["accuracy"])
        if curve.how == REMOVAL:
            rest = "+".join(s for s in whole.whole if s != curve.stream)
            assert curve.scores[-1] == pytest.approx(whole.subsets[rest]["accuracy"])
    hows = {(curve.stream, curve.how) for curve in result.curves}
    assert {("photo", "blur"), ("sound", "noise"), ("note", "typos"), ("sensor", "drift"), ("table", "wrong")} <= hows
    again = robustness(trained.predictor.model, trained.schema, encoded)["event"]
    assert again.curves == result.curves, "the same seed gives the same accidents"
    fewer = robustness(trained.predictor.model, trained.schema, encoded, corruptions=False, most=10)["event"]
    assert {curve.how for curve in fewer.curves} == {REMOVAL}
    assert fewer.rows <= 10


def test_another_metric_can_be_followed(trained: Any, encoded: Any) -> None:
    result = robustness(trained.predictor.model, trained.schema, encoded, metrics={"event": "log_loss"}, corruptions=False)[
        "event"
    ]
    assert not result.higher_is_better
    assert all(score > 0 for curve in result.curves for score in curve.scores)
    with pytest.raises(ConfigError, match="did you mean log_loss"):
        robustness(trained.predictor.model, trained.schema, encoded, metrics={"event": "log_los"}, corruptions=False)


DOCUMENT = {
    "target": "event",
    "metric": "accuracy",
    "higher_is_better": True,
    "runs": [
        {"name": "gated", "streams": ["photo", "note", "sound"], "mean": 0.9},
        {"name": "photo alone", "streams": ["photo"], "mean": 0.4},
        {"name": "without note", "streams": ["photo", "sound"], "mean": 0.7},
    ],
}


def test_references_are_the_best_models_trained_without_the_stream() -> None:
    result = references(DOCUMENT, "event", "accuracy", ["photo", "note", "sound"])
    assert {s: (r.score, r.name) for s, r in result.items()} == {
        "note": (0.7, "without note"),
        "sound": (0.4, "photo alone"),
    }
    with pytest.raises(ConfigError, match="compares accuracy of 'event', not accuracy of 'price'"):
        references(DOCUMENT, "price", "accuracy", ["photo"])


def test_the_command_reports_robustness(cli: Any, run_folder: Path, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text(json.dumps(DOCUMENT), encoding="utf-8")
    words = ["evaluate", run_folder, scenes / "test.csv", "--robustness", "--reference", tmp_path / "compare.json", "-q"]
    code, out, _ = cli(*words, "--report", tmp_path / "r.html", "--json", tmp_path / "r.json")
    assert code == 0
    assert "mean area: removal" in out
    assert "the best model trained without it scores 0.400 (photo alone)" in out
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h3>Robustness</h3>" in page
    assert "trained without it (photo alone)" in page
    document = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["robustness"]["event"]
    assert 0 < document["removal_area"] <= 2
    code, _, stderr = cli("evaluate", run_folder, scenes / "test.csv", "--reference", tmp_path / "compare.json")
    assert (code, "--reference needs --robustness" in stderr) == (2, True)

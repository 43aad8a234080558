"""A model that version 0.1 saved answers the same numbers ever after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sensorium as sm

FOLDER = Path(__file__).parent / "fixtures" / "model_0_1"


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
    return found


def agree(found: Any, wanted: Any, where: str) -> None:
    """The same, numbers to within what another processor's kernels may round."""
    if isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5, nan_ok=True), where
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for key, value in wanted.items():
            agree(found[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for i, value in enumerate(wanted):
            agree(found[i], value, f"{where}[{i}]")
    else:
        assert found == wanted, where


def test_predictions_are_those_of_then(expected: dict[str, Any]) -> None:
    model = sm.load(FOLDER / "run")
    assert set(model.model.tasks) == {"event", "cost", "tags", "kind"}
    answers = [prediction.to_json() for prediction in model.predict(FOLDER / "rows.csv")]
    agree(answers, expected["predictions"], "predictions")


def test_scores_are_those_of_then(expected: dict[str, Any]) -> None:
    found = sm.load(FOLDER / "run").evaluate(FOLDER / "rows.csv").targets
    agree({name: target.metrics for name, target in found.items()}, expected["metrics"], "metrics")
    agree({name: target.baseline for name, target in found.items()}, expected["baseline"], "baseline")


def test_saved_again_it_is_the_same_model(tmp_path: Path, expected: dict[str, Any]) -> None:
    again = sm.load(sm.load(FOLDER / "run").save(tmp_path / "run"))
    agree([p.to_json() for p in again.predict(FOLDER / "rows.csv")], expected["predictions"], "predictions")

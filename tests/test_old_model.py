"""A model that version 0.1 saved answers the same numbers ever after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sensorium as sm
from sensorium.core.recipe import Recipe
from sensorium.core.upgrade import upgrade_columns

FOLDER = Path(__file__).parent / "fixtures" / "model_0_1"


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    results: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
    return results


def agree(result: Any, wanted: Any, where: str) -> None:
    """The same, numbers to within what another processor's kernels may round."""
    if isinstance(wanted, float):
        assert result == pytest.approx(wanted, rel=1e-4, abs=1e-5, nan_ok=True), where
    elif isinstance(wanted, dict):
        assert list(result) == list(wanted), where
        for key, value in wanted.items():
            agree(result[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(result) == len(wanted), where
        for i, value in enumerate(wanted):
            agree(result[i], value, f"{where}[{i}]")
    else:
        assert result == wanted, where


def test_predictions_are_those_of_then(expected: dict[str, Any]) -> None:
    model = sm.load(FOLDER / "run")
    assert set(model.model.tasks) == {"event", "cost", "tags", "kind"}
    answers = [prediction.to_json() for prediction in model.predict(FOLDER / "rows.csv")]
    agree(answers, expected["predictions"], "predictions")


def test_scores_are_those_of_then(expected: dict[str, Any]) -> None:
    evaluation = sm.load(FOLDER / "run").evaluate(FOLDER / "rows.csv").targets
    agree({name: target.metrics for name, target in evaluation.items()}, expected["metrics"], "metrics")
    agree({name: target.baseline for name, target in evaluation.items()}, expected["baseline"], "baseline")


def test_saved_again_it_is_the_same_model(tmp_path: Path, expected: dict[str, Any]) -> None:
    again = sm.load(sm.load(FOLDER / "run").save(tmp_path / "run"))
    agree([p.to_json() for p in again.predict(FOLDER / "rows.csv")], expected["predictions"], "predictions")


KINDS = FOLDER.parent / "kinds_0_1"


@pytest.mark.parametrize("name", ["imputing", "grouped"])
def test_kinds_that_were_renamed_since_are_read_under_their_old_names(name: str, tmp_path: Path) -> None:
    """Encoders, fusions nested in fusions and objectives of format 1; saved again they have their new names."""
    model = sm.load(KINDS / name)
    expected = json.loads((KINDS / name / "expected_predictions.json").read_text(encoding="utf-8"))
    agree([p.to_json() for p in model.predict(FOLDER / "rows.csv")], expected, name)
    saved = (model.save(tmp_path / "run") / "recipe.yaml").read_text(encoding="utf-8")
    assert saved.startswith("version: 2")
    for old in ("bag", "wordvectors", "pos", "alignment", "cross", "impute"):
        assert f"kind: {old}\n" not in saved
    agree([p.to_json() for p in sm.load(tmp_path / "run").predict(FOLDER / "rows.csv")], expected, name)


def test_a_recipe_of_today_keeps_its_kinds_and_an_old_one_gets_them() -> None:
    old = {"columns": {"p": {"kind": "pos", "of": "note"}, "t": "text"}, "model": {"fusion": "alignment"}}
    recipe = Recipe.parse({**old, "objectives": ["supervised", "impute"]})
    assert recipe.columns["p"] == {"kind": "part_of_speech", "of": "note"}
    assert recipe.model.fusion == "cross_attention"
    assert recipe.objectives == ["supervised", "stream_imputation"]
    fitted = {"columns": [{"name": "p", "role": "input", "spec": {"kind": "pos", "length": 8}, "state": {}}]}
    assert upgrade_columns(fitted)["columns"][0]["spec"] == {"kind": "part_of_speech", "length": 8}
    assert Recipe.parse({**old, "version": 2}).model.fusion == "alignment", "no kind of today: told where it is built"

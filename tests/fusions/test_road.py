"""From a table to a saved model and back with fusions that change more than one file: late, compose, early."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import sensorium as sm
from sensorium.core.errors import SensoriumError
from sensorium.training.defaults import SIZES, _sized

HEAVY = ["photo", "sound", "room", "when", "temperature"]
"""Left out, so that a fit takes a second: words and a sensor remain."""
GROUPS = "{both: {streams: [note, sensor], fusion: {kind: gated, temperature: 2}}}"
WAYS = {
    "stacking": ["model.fusion={kind: late, decide: stacking}"],
    "vote": ["model.fusion={kind: late, decide: vote}"],
    "compose": [f"model.fusion={{kind: compose, fusion: late, groups: {GROUPS}}}"],
    "early": ["model.fusion=early"],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_whole_road(way: str, quick_fit: Any, scenes: Path, tmp_path: Path, cli: Any) -> None:
    model = quick_fit(
        valid=scenes / "valid.csv",
        target=["event", "cost", "tags"],
        ignore=HEAVY,
        overrides=["training.epochs=1", *WAYS[way]],
    )
    fusion = model.recipe.model.fusion
    if way == "compose":
        assert fusion["groups"]["both"]["fusion"] == {"kind": "gated", "temperature": 2.0}, "options are not written out"
    if way == "early":
        assert {spec["depth"] for spec in model.recipe.model.encoders.values()} == {1}, "encoders are not shallow"
    if way == "stacking":
        assert all(bool(task.stacker.score.any()) for task in model.model.tasks.values()), "nothing was stacked"
    with (scenes / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:6]
    rows = [rows[0] | {"note": ""}, rows[1] | {"sensor": ""}, rows[2] | {"note": "", "sensor": ""}, *rows[3:]]
    before = model.predictor.predict(rows, media=None)
    model.save(tmp_path / "run")
    after = sm.load(tmp_path / "run").predictor.predict(rows, media=None)
    assert [p.targets for p in before] == [p.targets for p in after]
    assert "note" in before[0].missing
    if way == "vote":
        code, result, _ = cli("predict", tmp_path / "run", scenes / "test.csv")
        assert code == 0
        assert "event=kettle" in result.splitlines()[0], "the classes' chances are not among the columns"
    evaluation = model.evaluate(scenes / "test.csv").to_json()
    assert evaluation["confusion"]["event"]["counts"], "what a kind of task has is not asked of the kind"


def test_the_size_of_the_model_reaches_the_fusions_within_a_fusion() -> None:
    spec = {"kind": "compose", "groups": {"near": {"streams": ["a", "b"], "fusion": "cross_modal"}}, "fusion": "early"}
    full = _sized("fusions", spec, SIZES["large"])
    assert (full["groups"]["near"]["fusion"]["heads"], full["fusion"]["heads"], full["fusion"]["depth"]) == (8, 8, 4)
    assert _sized("fusions", "tensor", SIZES["large"])["features"] is None


def test_a_fusion_that_cannot_be_is_refused_before_training(quick_fit: Any) -> None:
    wrong = GROUPS.replace("[note", "[noet")
    with pytest.raises(SensoriumError, match="did you mean note"):
        quick_fit(ignore=["cost", "tags", *HEAVY], overrides=["model.fusion=compose", f"model.fusion.groups={wrong}"])

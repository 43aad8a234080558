"""Qualities set what the table says, and nothing that the user set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.training.defaults import resolve
from sensorium.training.quality_presets import QUALITY, with_quality


@pytest.fixture(scope="module")
def schema() -> Schema:
    found = Schema.declare({"x": "number", "y": {"kind": "category", "role": "target"}})
    found.columns["x"].reader.fit(["1", "2"])
    found.columns["y"].reader.fit(["a", "b"])
    return found


def test_each_quality_sets_its_preset(schema: Schema) -> None:
    usual, _ = resolve(Recipe(), schema, 1000)
    assert usual.training.epochs is not None
    for name, preset in QUALITY.items():
        plan, trials, said = with_quality(name, Recipe(), schema, 1000, {})
        found, _ = resolve(plan, schema, 1000)
        assert found.training.epochs == round(usual.training.epochs * preset.passes)
        assert trials == preset.trials
        assert name in said[0]
    fast, _, _ = with_quality("fast", Recipe(), schema, 1000, {})
    assert (usual.model.size, fast.model.size) == ("small", "tiny")
    good, trials, _ = with_quality("good", Recipe(), schema, 1000, {})
    assert (good, trials) == (Recipe(), None), "good is what is done without a word"


def test_quality_keeps_user_settings(schema: Schema) -> None:
    told = Recipe().override(["model.size=large", "training.epochs=7"])
    for name in QUALITY:
        plan, _, _ = with_quality(name, told, schema, 1000, {})
        assert (plan.model.size, plan.training.epochs) == ("large", 7)
    assert with_quality(None, told, schema, 1000, {}) == (told, None, [])
    with pytest.raises(ConfigError, match="did you mean best"):
        with_quality("bestt", Recipe(), schema, 1000, {})


def test_quality_best_searches(scenes: Path, quick_fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sensorium.training import quality_presets

    monkeypatch.setitem(quality_presets.QUALITY, "best", quality_presets.QUALITY["best"]._replace(trials=2))
    ignore = ["cost", "tags", "note", "sound", "when", "photo"]
    found = quick_fit(quality="best", ignore=ignore, overrides=["training.epochs=1"])
    assert len(found.artifact.report["search"]["trials"]) == 2
    assert found.recipe.model.networks == 1 + len(found.model.others) == 4
    assert len(found.artifact.report["networks"]) == 4


def test_patience_is_shorter_with_experts_for_all_streams(schema: Schema) -> None:
    def patience(rows: int, *told: str) -> tuple[int | None, int | None]:
        found, _ = resolve(Recipe().override(["model.experts=[linear]", *told]), schema, rows)
        return found.training.epochs, found.training.patience

    assert patience(100) == (150, 12)
    assert patience(100, "model.experts=[]") == (150, 50)
    assert patience(100, "training.patience=33") == (150, 33)
    assert patience(100, "training.epochs=54") == (54, 9)
    assert patience(100, "training.epochs=12") == (12, 8)

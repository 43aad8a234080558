"""Qualities set what the table says, and nothing that the user set."""

from __future__ import annotations

import subprocess
import sys
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
    table = Schema.declare({"x": "number", "y": {"kind": "category", "role": "target"}})
    table.columns["x"].reader.fit(["1", "2"])
    table.columns["y"].reader.fit(["a", "b"])
    return table


def test_each_quality_sets_its_preset(schema: Schema) -> None:
    usual, _ = resolve(Recipe(), schema, 1000)
    assert usual.training.epochs is not None
    for name, preset in QUALITY.items():
        plan, trials, notes = with_quality(name, Recipe(), schema, 1000, {})
        result, _ = resolve(plan, schema, 1000)
        assert result.training.epochs == round(usual.training.epochs * preset.passes)
        assert trials == preset.trials
        assert name in notes[0]
    fast, _, _ = with_quality("fast", Recipe(), schema, 1000, {})
    assert (usual.model.size, fast.model.size) == ("small", "tiny")
    good, trials, _ = with_quality("good", Recipe(), schema, 1000, {})
    assert (good, trials) == (Recipe(), None), "good is what is done without a word"


def test_quality_keeps_user_settings(schema: Schema) -> None:
    overrides = Recipe().override(["model.size=large", "training.epochs=7"])
    for name in QUALITY:
        plan, _, _ = with_quality(name, overrides, schema, 1000, {})
        assert (plan.model.size, plan.training.epochs) == ("large", 7)
    assert with_quality(None, overrides, schema, 1000, {}) == (overrides, None, [])
    with pytest.raises(ConfigError, match="did you mean best"):
        with_quality("bestt", Recipe(), schema, 1000, {})


def test_quality_best_searches(scenes: Path, quick_fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sensorium.training import quality_presets

    monkeypatch.setitem(quality_presets.QUALITY, "best", quality_presets.QUALITY["best"]._replace(trials=2))
    ignore = ["cost", "tags", "note", "sound", "when", "photo"]
    result = quick_fit(quality="best", ignore=ignore, overrides=["training.epochs=1"])
    assert len(result.artifact.report["search"]["trials"]) == 2
    assert result.recipe.model.networks == 1 + len(result.model.others) == 4
    assert len(result.artifact.report["networks"]) == 4


def test_patience_is_shorter_with_experts_for_all_streams(schema: Schema) -> None:
    def patience(rows: int, *overrides: str) -> tuple[int | None, int | None]:
        result, _ = resolve(Recipe().override(["model.experts=[linear]", *overrides]), schema, rows)
        return result.training.epochs, result.training.patience

    assert patience(100) == (150, 12)
    assert patience(100, "model.experts=[]") == (150, 50)
    assert patience(100, "training.patience=33") == (150, 33)
    assert patience(100, "training.epochs=54") == (54, 9)
    assert patience(100, "training.epochs=12") == (12, 8)


def test_without_a_network_lightning_is_not_imported() -> None:
    """It takes seconds to import, more than ``fast`` takes for a small table."""
    program = """
import sys, sensorium
rows = {"word": ["yes", "no"] * 20, "size": [float(i % 5) for i in range(40)], "answer": ["a", "b"] * 20}
model = sensorium.fit(rows, target="answer", quality="fast", quiet=True)
assert not model.recipe.model.network
heavy = {"lightning", "torchmetrics", "transformers", "matplotlib", "torch._dynamo"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

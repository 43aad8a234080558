"""Comparisons: one setup for all runs, resumable, with significance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.data.tables.table import Table
from sensorium.reporting.console import Console
from sensorium.training.compare import compare
from sensorium.training.comparison_choices import ComparisonRequest, buildable
from sensorium.training.comparison_setup import prepare
from sensorium.training.memory_footprint import COPIES, training_bytes
from sensorium.training.training_request import Request

QUICK = ["model.size=tiny", "training.epochs=1", "training.batch_size=32"]


def run_comparison(scenes: Path, out: Path, **more: Any) -> Any:
    options: dict[str, Any] = {
        "target": "event",
        "test": scenes / "test.csv",
        "fusions": "gated,concat",
        "seeds": 2,
        "ignore": ["cost", "tags", "note", "sound", "when", "room", "temperature"],
        "overrides": QUICK,
        "quiet": True,
        "out": out,
    }
    return compare(scenes / "train.csv", **(options | more))


@pytest.fixture(scope="module")
def folder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "compare"
    run_comparison(scenes, out)
    return out


def test_comparison_lists_cost_and_robustness_of_every_variant(folder: Path) -> None:
    document = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    assert {run["name"] for run in document["runs"]} == {"gated", "concat", "photo alone", "sensor alone"}
    for run in document["runs"]:
        assert len(run["scores"]) == 2
        assert run["mean"] == pytest.approx(np.mean(run["scores"]))
        assert run["parameters"] > 0
        assert run["memory"] > 16 * run["parameters"], "weights, gradients and moments, and activations"
        assert run["cpu"] > 0
        assert (run["robustness_area"] is None) == (len(run["streams"]) == 1)
        assert (run["behind"] is None) == (run["name"] == document["best"])
    assert document["runs"][0]["name"] == document["best"]
    assert any(sentence.startswith("Best: ") for sentence in document["findings"])
    assert 0 < document["baseline"] < 1


def test_comparison_files_are_self_contained(folder: Path) -> None:
    from xml.etree import ElementTree

    assert ElementTree.fromstring((folder / "compare.svg").read_text(encoding="utf-8")).tag.endswith("svg")
    page = (folder / "compare.html").read_text(encoding="utf-8")
    assert "sensor removed" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (folder / "compare.md").read_text(encoding="utf-8").startswith("| configuration | score |")


def test_winner_recipe_trains(folder: Path, quick_fit: Any, scenes: Path) -> None:
    document = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    recipe = Recipe.from_yaml(folder / "winner.yaml")
    assert isinstance(recipe.model.fusion, dict)
    assert recipe.model.fusion["kind"] == document["best"]
    assert recipe.data.train == str(scenes / "train.csv")
    again = quick_fit(target=None, ignore=(), recipe=folder / "winner.yaml")
    assert again.recipe.model.fusion == recipe.model.fusion


def test_stopped_comparison_resumes(folder: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = folder / "runs.jsonl"
    lines = runs.read_text(encoding="utf-8").splitlines()
    runs.write_text("\n".join(lines[:-1]) + '\n{"comparison": "half a li', encoding="utf-8")
    before = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    count = 0
    from sensorium.training import compare as module

    whole = module.run_one

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return whole(*args)

    monkeypatch.setattr(module, "run_one", counted)
    run_comparison(scenes, folder)
    after = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    assert count == 1
    assert [run["scores"] for run in after["runs"]] == [run["scores"] for run in before["runs"]], "bit for bit"
    with pytest.raises(ConfigError, match="another comparison"):
        run_comparison(scenes, folder, overrides=[*QUICK, "training.lr=0.01"])


def test_all_runs_share_one_setup(scenes: Path, tmp_path: Path) -> None:
    ignored = ("cost", "tags", "when", "room", "temperature")
    request = Request.of(scenes / "train.csv", target="event", ignore=ignored, overrides=QUICK)
    setup, where = prepare(request, None, Console(True))
    assert "no run has seen" in where
    total = len(setup.rows) + len(setup.valid) + len(setup.test)
    assert len(setup.test) == round(0.2 * total)
    factors = ComparisonRequest.of("gated,weighted").factors(setup.schema, setup.plan)
    ways, skipped = buildable(setup, factors, True)
    assert skipped == {}
    assert [way.name for way in ways][:2] == ["gated", "weighted"]
    assert {way.name for way in ways if way.single} >= {"photo alone", "without photo"}
    encoders = {json.dumps(each.plan.model.encoders) for way, each in ways.items() if not way.single}
    assert len(encoders) == 1, "the same encoders for all"
    alone = next(each for way, each in ways.items() if way.name == "sound alone")
    assert list(alone.schema.streams) == list(alone.rows.inputs) == list(alone.plan.model.encoders) == ["sound"]
    assert alone.plan.model.encoders["sound"] == setup.plan.model.encoders["sound"]
    assert alone.schema.inputs[0].reader is setup.schema.streams["sound"][0].reader, "learnt once"
    limited, with_limit = setup.with_time_limit(3.5, ways)
    assert {each.plan.training.time_limit for each in (limited, *with_limit.values())} == {3.5}


def test_unbuildable_variants_are_reported(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sensorium.core import registry
    from sensorium.training import comparison_choices as module

    whole = module.assemble

    def refused(spec: Any, schema: Any) -> Any:
        if registry.split(spec.fusion)[0] == "concat":
            raise ConfigError("a product of 9 streams is too large")
        return whole(spec, schema)

    monkeypatch.setattr(module, "assemble", refused)
    computed = run_comparison(scenes, tmp_path / "c", seeds=1, fusions=["concat", "weighted"])
    assert computed.skipped == {"concat": "a product of 9 streams is too large"}
    assert "skipped: a product of 9 streams is too large" in computed.text()
    assert "With one seed" in computed.text()


def test_invalid_comparisons_are_refused(scenes: Path, tmp_path: Path, cli: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean gated"):
        run_comparison(scenes, tmp_path, fusions="gatd")
    with pytest.raises(ConfigError, match="2 targets cannot be compared at once"):
        run_comparison(scenes, tmp_path, ignore=["tags"], overrides=[*QUICK, "columns.cost={kind: number, role: target}"])
    code, _, stderr = cli("compare", scenes / "nowhere.csv", "--target", "event", "--out", tmp_path / "x")
    assert code == 2
    assert "no such file" in stderr
    assert not (tmp_path / "x").exists()


def test_memory_measurement_leaves_the_model_unchanged(trained: Any, scenes: Path) -> None:
    rows = trained.encode(Table.read(scenes / "train.csv"))
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    size = training_bytes(trained.model, trained.recipe, trained.schema, rows)
    weights = sum(p.numel() * p.element_size() for p in trained.model.parameters())
    assert size > COPIES["adamw"] * weights
    assert size == training_bytes(trained.model, trained.recipe, trained.schema, rows)
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())
    assert all(p.grad is None for p in trained.model.parameters())


def test_time_limit_is_divided_evenly(scenes: Path, tmp_path: Path) -> None:
    computed = run_comparison(scenes, tmp_path / "c", seeds=1, fusions=["gated"], time_limit=3.0)
    assert "and 1 s a run" in computed.budget, "one fusion and two single modalities"
    assert Recipe.from_yaml(tmp_path / "c" / "winner.yaml").training.time_limit == 1.0

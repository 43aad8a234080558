"""Every example, every recipe and the demo run."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sensorium.core.recipe import Recipe
from sensorium.core.registry import kind_of
from sensorium.data.tables.table import Table

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, python: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    if path.stem == "add_fusion":  # changes what this process could import
        done = python("-W", "error::DeprecationWarning", path)
        assert done.returncode == 0, done.stderr
        said = done.stdout
    else:
        runpy.run_path(str(path))
        said = capsys.readouterr().out
    assert said.strip()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_trains(path: Path, scenes: Path) -> None:
    import sensorium as sm

    declared = Recipe.from_yaml(path)
    whole = Table.read(scenes / "train.csv")
    columns = {name: whole.column(name) for name in whole.columns if name in declared.columns}
    table = Table(columns, source=whole.source, root=whole.root)
    model = sm.fit(table, recipe=path, overrides=["training.epochs=1"], quiet=True)
    # What the recipe says stands in the resolved one; that is the identity through YAML.
    assert Recipe.parse(yaml.safe_load(model.recipe.to_yaml())) == model.recipe
    for stream, spec in declared.model.encoders.items():
        kind = spec if isinstance(spec, str) else spec["kind"]
        assert kind_of(model.model.encoders[stream]) == kind
    predicted = model.predict([{}])[0].targets
    targets = {name for name, spec in declared.columns.items() if "target" in str(spec)}
    without = {
        name for name, spec in declared.model.tasks.items() if not isinstance(spec, str) and spec.get("target", "") is None
    }
    assert set(predicted) == targets | without


def test_demo_tells_its_story(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, said, _ = cli("demo", "--out", tmp_path / "demo", "--rows", 200)
    assert code == 0
    assert (tmp_path / "demo" / "test.html").stat().st_size > 10_000
    assert (tmp_path / "demo" / "run" / "manifest.json").is_file()
    found = re.search(r"Accuracy with all streams (\d\.\d+)", said)
    assert found
    assert float(found[1]) > 0.5, "the demo learns too little to be shown"
    # The README shows the demo's real output: the same steps under the same titles.
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- demo -->")[2].partition("<!-- /demo -->")[0]
    titles = re.findall(r"^\d\. [^:\n]+", said, re.MULTILINE)
    assert len(titles) == 5
    assert titles == re.findall(r"^\d\. [^:\n]+", shown, re.MULTILINE), "write it anew: python docs/generate.py --demo"

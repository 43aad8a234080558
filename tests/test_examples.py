"""Every example, every recipe and the demo run."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sensorium.core.goal import task_spec
from sensorium.core.recipe import Recipe
from sensorium.core.registry import kind_of
from sensorium.data.synthetic_activities import make as make_activities
from sensorium.data.synthetic_album import make as make_album
from sensorium.data.synthetic_boxes import make as make_boxes
from sensorium.data.synthetic_captions import make as make_captions
from sensorium.data.synthetic_car import make as make_car
from sensorium.data.synthetic_chests import make as make_chests
from sensorium.data.synthetic_dialogues import make as make_dialogues
from sensorium.data.synthetic_drives import make as make_drives
from sensorium.data.synthetic_drugs import make as make_drugs
from sensorium.data.synthetic_edges import make as make_edges
from sensorium.data.synthetic_home import make as make_home
from sensorium.data.synthetic_lectures import make as make_lectures
from sensorium.data.synthetic_lips import make as make_lips
from sensorium.data.synthetic_loans import make as make_loans
from sensorium.data.synthetic_meters import make as make_meters
from sensorium.data.synthetic_patients import make as make_patients
from sensorium.data.synthetic_poses import make as make_poses
from sensorium.data.synthetic_posts import make as make_posts
from sensorium.data.synthetic_questions import make as make_questions
from sensorium.data.synthetic_requests import make as make_requests
from sensorium.data.synthetic_scenes import make as make_masks
from sensorium.data.synthetic_service import make as make_service
from sensorium.data.synthetic_shop import make as make_shop
from sensorium.data.synthetic_speech import make as make_speech
from sensorium.data.tables.table import Table

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
OWN_DATA = {
    "lecture": make_lectures,
    "action": make_car,
    "intent": make_service,
    "recording": make_album,
    "brake": make_drives,
    "opacities": make_chests,
    "shapes": make_masks,
    "edges": make_edges,
    "molecule": make_drugs,
    "rating": make_shop,
    "labels": make_activities,
    "spoken": make_questions,
    "answer": make_captions,
    "caption": make_captions,
    "lips": make_lips,
    "feeling": make_dialogues,
    "sentiment": make_posts,
    "load": make_meters,
    "camera": make_home,
    "progressed": make_patients,
    "defaulted": make_loans,
    "points": make_poses,
    "boxes": make_boxes,
    "transcript": make_speech,
    "slots": make_requests,
}
"""By a column of theirs, what writes the table of recipes that do not use the usual one."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, python: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    if path.stem == "drug_effect":
        pytest.importorskip("rdkit", reason="molecules need the extra molecule")
    if path.stem == "add_fusion":  # changes what this process could import
        done = python("-W", "error::DeprecationWarning", path)
        assert done.returncode == 0, done.stderr
        output = done.stdout
    else:
        runpy.run_path(str(path))
        output = capsys.readouterr().out
    assert output.strip()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_trains(path: Path, scenes: Path, tmp_path: Path) -> None:
    import sensorium as sm

    declared = Recipe.from_yaml(path)
    windows = declared.data.windows
    long = () if windows is None else (*windows.target, *windows.known, windows.time, windows.series)
    read = {*declared.columns, *long}
    if "molecule" in read:
        pytest.importorskip("rdkit", reason="molecules need the extra molecule")
    own = next((make for name, make in OWN_DATA.items() if name in read), None)
    if own is not None:
        own(tmp_path, rows=24, test=0.0)
    whole = Table.read(next((scenes if own is None else tmp_path).glob("train.*")))
    columns = {name: whole.column(name) for name in whole.columns if name in read}
    table = Table(columns, source=whole.source, root=whole.root)
    model = sm.fit(table, recipe=path, overrides=["training.epochs=1"], quiet=True)
    # What the recipe says stands in the resolved one; that is the identity through YAML.
    assert Recipe.parse(yaml.safe_load(model.recipe.to_yaml())) == model.recipe
    for stream, spec in declared.model.encoders.items():
        kind = spec if isinstance(spec, str) else spec["kind"]
        assert kind_of(model.model.encoders[stream]) == kind
    predicted = model.predict([{}] if windows is None else [{"past": None}])[0].targets
    tasks = {name: task_spec(name, spec).targets for name, spec in declared.model.tasks.items()}
    targets = {name for name, spec in declared.columns.items() if "target" in str(spec)}
    assert set(predicted) == tasks.keys() | targets.difference(*tasks.values())


def test_demo_tells_its_story(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, stdout, _ = cli("demo", "--out", tmp_path / "demo", "--rows", 200)
    assert code == 0
    assert (tmp_path / "demo" / "test.html").stat().st_size > 10_000
    assert (tmp_path / "demo" / "run" / "manifest.json").is_file()
    result = re.search(r"Accuracy with all streams (\d\.\d+)", stdout)
    assert result
    assert float(result[1]) > 0.5, "the demo learns too little to be shown"
    # The README shows the demo's real output: the same steps under the same titles.
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- demo -->")[2].partition("<!-- /demo -->")[0]
    titles = re.findall(r"^\d\. [^:\n]+", stdout, re.MULTILINE)
    assert len(titles) == 5
    assert titles == re.findall(r"^\d\. [^:\n]+", shown, re.MULTILINE), "write it anew: python docs/generate.py --demo"

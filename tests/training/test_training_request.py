"""Requests: recipes of any form, settings by name, and overrides that must not set the same again."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.training.training_request import Request

TOLD: dict[str, Any] = {
    "epochs": 7,
    "lr": 1e-5,
    "batch_size": 8,
    "fusion": "gated",
    "size": "tiny",
    "seed": 3,
    "time_limit": 9.5,
}
OVERRIDES = [
    *("training.epochs=7", "training.lr=1e-5", "training.batch_size=8", "model.fusion=gated", "model.size=tiny", "seed=3"),
    "training.time_limit=9.5",
]


def plan(**options: Any) -> Recipe:
    return Request.of("t.csv", target="y", **options).plan


def test_named_settings_equal_recipe_settings() -> None:
    assert plan(**TOLD) == plan(overrides=OVERRIDES)
    assert plan(**{name: np.asarray(value)[()] for name, value in TOLD.items()}) == plan(**TOLD)
    assert plan(fusion={"kind": "gated", "temperature": 2.0}).model.fusion == {"kind": "gated", "temperature": 2.0}
    refined = plan(fusion="gated", overrides=["model.fusion.temperature=2"])
    assert refined.model.fusion == {"kind": "gated", "temperature": 2.0}
    assert plan(recipe={"training": {"epochs": 3}}, epochs=7).training.epochs == 7, "it goes before the recipe"


@pytest.mark.parametrize("word", [*OVERRIDES, "training.epochs=20", "training={epochs: 5}", "model={size: base}"])
def test_settings_given_twice_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="is set twice") as caught:
        plan(**TOLD, overrides=[word])
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "training.epochs"),
        ({"lr": "fast"}, "training.lr"),
        ({"size": "huge"}, "model.size"),
        ({"fusion": {1}}, "is not a valid value in a recipe"),
    ],
)
def test_invalid_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize("form", [dict, OrderedDict, MappingProxyType, Recipe.parse])
def test_recipe_may_be_a_mapping(form: Any, tmp_path: Path) -> None:
    document = {"training": {"epochs": 3}, "columns": {"a.b": "text"}, "model": {"fusion": {"kind": "gated"}}}
    path = tmp_path / "r.yaml"
    path.write_text("training: {epochs: 3}\ncolumns: {a.b: text}\nmodel: {fusion: {kind: gated}}\n", encoding="utf-8")
    assert plan(recipe=form(document)) == plan(recipe=path) == plan(recipe=str(path))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"trainng": {"epochs": 3}}, "did you mean training"),
        ({"training": {"epoch": 3}}, "training.epoch: no such key; did you mean epochs"),
        ({"training": {"epochs": "many"}}, "training.epochs"),
        ({"training": None}, "training"),
        ({1: 2}, "1"),
        ([1], "a value of type list"),
        (3, "a value of type int"),
    ],
)
def test_unknown_key_is_named(recipe: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(recipe=recipe)
    assert message in str(caught.value)


def test_fit_and_command_line_accept_named_settings(quick_fit: Any, cli: Any, scenes: Path, tmp_path: Path) -> None:
    few = ["cost", "tags", "photo", "sound", "sensor"]
    ignored = ["--ignore", ",".join(few[:2]), "--ignore", ",".join(few[2:])]
    words = ["fit", scenes / "train.csv", "--target", "event", *ignored, "--out", tmp_path / "run", "-q"]
    code, _, stderr = cli(*words, "--epochs", 1, "training.epochs=2")
    assert code == 2
    assert "training.epochs is set twice: epochs=1, and training.epochs=2" in stderr
    code, _, stderr = cli(*words, "--epochs", 1, "model.size=tiny", "model.experts=[]")
    assert code == 0, stderr
    trained = sm.load(tmp_path / "run")
    assert len(trained.history) == 1
    assert not {"photo", "sound", "sensor"} & set(trained.schema.streams)
    options = {"epochs": 1, "size": "tiny", "batch_size": 16, "recipe": {"model": {"experts": []}}, "quiet": True}
    model = sm.fit(scenes / "train.csv", target="event", ignore=few, **options)
    assert (len(model.history), model.recipe.training.batch_size) == (1, 16)


def test_settings_of_the_named_task_count() -> None:
    """Options go before settings of the recipe; those of a task of another kind have no place in this one."""

    def task(override: str, **options: Any) -> Any:
        tasks = plan(task="captioning", options=options, overrides=[override]).model.tasks
        return tasks["y"]

    named = {"kind": "captioning", "target": "y"}
    assert task("model.tasks.y.decoder=gru") == {**named, "decoder": "gru"}
    assert task("model.tasks={y: {kind: captioning, decoder: gru, beam: 2}}", beam=5) == {
        **named,
        "decoder": "gru",
        "beam": 5,
    }
    assert task("model.tasks.y={kind: translation, decoder: gru}") == named
    assert task("model.tasks.y=captioning") == named

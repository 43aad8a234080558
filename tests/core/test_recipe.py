"""Recipes: YAML in and out is the identity, every key is known, overrides reach every place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core.errors import ConfigError
from sensorium.core.portable_recipe import portable
from sensorium.core.recipe import Recipe, read_yaml
from sensorium.core.upgrade import VERSION

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = words.filter(bool)
numbers = st.floats(1e-12, 1e12) | st.integers(1, 10**6)
values = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | words
specs = words | st.dictionaries(names, values | st.lists(values, max_size=3), max_size=4)
recipes = st.fixed_dictionaries(
    {},
    optional={
        "data": st.fixed_dictionaries(
            {},
            optional={
                "train": st.none() | words,
                "media": st.none() | words,
                "split": st.fixed_dictionaries(
                    {"kind": st.sampled_from(["random", "group", "time"]), "by": st.none() | words}
                ),
            },
        ),
        "columns": st.dictionaries(names, specs, max_size=3),
        "model": st.fixed_dictionaries(
            {},
            optional={
                "size": st.sampled_from(["auto", "tiny", "small", "base", "large"]),
                "dim": st.none() | st.integers(1, 4096),
                "encoders": st.dictionaries(names, specs, max_size=3),
                "fusion": st.none() | specs,
                "tasks": st.dictionaries(names, specs, max_size=3),
            },
        ),
        "objectives": st.lists(specs, min_size=1, max_size=3),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "epochs": st.none() | st.integers(1, 10**6),
                "lr": st.none() | st.floats(1e-12, 1e12),
                "time_limit": st.none() | st.floats(1e-6, 1e9),
                "augment": st.booleans(),
            },
        ),
        "seed": st.integers(0, 2**63 - 1),
    },
)


@settings(deadline=None, max_examples=60)
@given(recipes)
def test_yaml_in_and_out_is_the_identity(document: dict[str, Any]) -> None:
    recipe = Recipe.parse(document)
    text = recipe.to_yaml()
    again = Recipe.parse(yaml.safe_load(text))
    assert again == recipe
    assert again.to_yaml() == text


@pytest.mark.parametrize(
    "name", ["a\u0085b", "\u2028", "a\nb", "\t", "\ufeff", "yes", "1e5", "~", " x ", "#", "'", '"', "2024-01-01"]
)
def test_names_that_yaml_reads_otherwise(name: str) -> None:
    recipe = Recipe.parse({"columns": {name: "text"}, "data": {"train": name}})
    assert Recipe.parse(yaml.safe_load(recipe.to_yaml())) == recipe


def test_a_resolved_recipe_comes_back_the_same(trained: Any, run_folder: Path) -> None:
    saved = (run_folder / "recipe.yaml").read_text(encoding="utf-8")
    assert Recipe.from_yaml(run_folder / "recipe.yaml") == portable(trained.recipe)
    assert portable(trained.recipe).to_yaml() == saved
    assert next(iter(yaml.safe_load(saved))) == "version"
    spec = trained.recipe.model
    assert set(spec.encoders) == set(spec.adapters) == set(trained.model.streams)
    assert None not in (spec.dim, spec.fusion, trained.recipe.training.epochs, trained.recipe.training.batch_size)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("training.epochs=20", ("training", "epochs"), 20),
        ("training.lr=1e-4", ("training", "lr"), 1e-4),
        ("model.fusion=gated", ("model", "fusion"), "gated"),
        ("model.fusion.temperature=2", ("model", "fusion"), {"temperature": 2}),
        ("model.encoders.photo={kind: patch, patch: 4}", ("model", "encoders"), {"photo": {"kind": "patch", "patch": 4}}),
        ("columns.照片=image", ("columns",), {"照片": "image"}),
        ("data.train=a=b.csv", ("data", "train"), "a=b.csv"),
        ("training.augment=false", ("training", "augment"), False),
        ("data.media=null", ("data", "media"), None),
        ("seed=7", ("seed",), 7),
    ],
)
def test_overrides(text: str, path: tuple[str, ...], value: object) -> None:
    result: Any = Recipe().override([text])
    for part in path:
        result = getattr(result, part)
    assert result == value


def test_overrides_build_on_one_another() -> None:
    recipe = Recipe().override(["model.fusion=gated", "model.fusion.temperature=2"])
    assert recipe.model.fusion == {"kind": "gated", "temperature": 2}
    assert Recipe().model.fusion is None, "the recipe itself is not changed"
    assert Recipe().override([]) == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.epoch=3", "training.epoch: no such key; did you mean epochs?"),
        ("trainng.epochs=3", "trainng: no such key; did you mean training?"),
        ("data.split.kid=group", "data.split.kid: no such key; did you mean kind?"),
        ("training.epochs=many", "training.epochs: 'many' is not a whole number"),
        ("training.epochs=0", "training.epochs"),
        ("training.lr=inf", "training.lr"),
        ("training.lr=.nan", "training.lr"),
        ("model.size=huge", "model.size: 'huge' is none of 'auto', 'tiny'"),
        ("objectives=[]", "objectives"),
        ("seed=-1", "seed"),
        ("epochs", "'epochs' is not an override"),
        ("=3", "'=3' is not an override"),
        ("model.fusion={", "is not a YAML value"),
        ("version=99", "format version 99 is not known here"),
    ],
)
def test_wrong_overrides(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe().override([text])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"training: {epoch: 3}", "r.yaml: training.epoch: no such key; did you mean epochs?"),
        (b"- a\n- b", "a recipe is a mapping of sections"),
        (b"training: [", "is not YAML"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"!!python/object/apply:os.system ['true']", "is not YAML"),
        (f"version: {VERSION + 1}".encode(), "is not known here"),
    ],
)
def test_wrong_files(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Recipe.from_yaml(tmp_path / "r.yaml")
    assert message in str(caught.value)
    assert "r.yaml" in str(caught.value)


def test_an_empty_file_leaves_everything_open(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("# nothing yet\n", encoding="utf-8")
    assert Recipe.from_yaml(tmp_path / "r.yaml") == Recipe()
    assert Recipe.from_yaml(str(tmp_path / "r.yaml")).to_yaml() == Recipe().to_yaml()


def test_the_key_on_is_a_word() -> None:
    """YAML 1.1 takes it for true."""
    written = "columns: {mask: {kind: mask, role: target, on: photo, classes: {a: 0, b: 1}}}"
    recipe = Recipe.parse(read_yaml(written))
    assert recipe.columns["mask"]["on"] == "photo"  # type: ignore[index]
    assert Recipe.parse(read_yaml(recipe.to_yaml())) == recipe
    assert read_yaml("{a: on, b: true}") == {"a": True, "b": True}, "as a value it is what it was"
    changed = recipe.override(["columns.other={kind: mask, on: photo}"])
    assert changed.columns["other"] == {"kind": "mask", "on": "photo"}

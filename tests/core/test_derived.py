"""Derived columns: one cell, read in two ways."""

from __future__ import annotations

from typing import Any

import pytest

from sensorium.core.errors import ConfigError, DataError, SensoriumError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.data.inspection.inspect import inspect
from sensorium.data.tables.table import Table
from sensorium.training.column_declaration import declare
from sensorium.training.fit import fit

WORDS = ["red shoes", "blue shoes", "red dress", "a blue dress", "red", "blue"] * 6
TABLE = {"review": WORDS, "label": ["r" if "red" in text else "b" for text in WORDS]}
LETTERS = {"kind": "text", "of": "review", "tokeniser": "character"}


def schema() -> Schema:
    table = Schema.declare({"review": "text", "letters": LETTERS})
    for column in table.inputs:
        column.reader.fit(WORDS)
    return table


def test_one_cell_is_read_twice() -> None:
    sample = schema().encode({"review": "blue"}, media=UPLOADS_ONLY)
    assert sample["letters"] is not None
    assert sample["letters"].shape == (4,)
    missing = schema().encode({"letters": "blue"}, media=UPLOADS_ONLY)
    assert missing == {"review": None, "letters": None}


def test_json_keeps_what_is_derived() -> None:
    again = Schema.from_json(schema().to_json())
    assert again.columns["letters"].source == "review"
    assert again.specs()["letters"]["of"] == "review"
    assert "of" not in again.specs()["review"]
    assert Schema.declare(again.specs()).columns["letters"].of == "review"


@pytest.mark.parametrize(
    "columns",
    [
        {"a": "text", "b": {"kind": "text", "of": "b"}},
        {"a": "text", "b": {"kind": "text", "of": 3}},
        {"a": "text", "b": {"kind": "text", "of": "a"}, "c": {"kind": "text", "of": "b"}},
        {"a": {"kind": "category", "role": "target"}, "b": {"kind": "text", "of": "a"}},
        {"a": "text", "b": {"kind": "text", "of": "a", "role": "both"}},
    ],
)
def test_circles_and_answers_are_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Schema.declare(columns)


def test_a_target_may_read_the_cells_of_an_input_in_another_way() -> None:
    schema = Schema.declare({"a": "text", "b": {"kind": "category", "of": "a", "role": "target"}})
    assert [c.name for c in schema.inputs] == ["a"]
    assert [(c.name, c.source) for c in schema.targets] == [("b", "a")]


@pytest.mark.parametrize("spec", [{"kind": "text", "of": "revue"}, {"of": "review"}])
def test_what_cannot_be_derived_is_said(spec: dict[str, Any]) -> None:
    with pytest.raises(SensoriumError, match="letters"):
        declare(Table.read(TABLE), Recipe(columns={"letters": spec}), ["label"], {})
    with pytest.raises(ConfigError, match="table"):
        declare(Table.read(TABLE), Recipe(columns={"review": LETTERS}), ["label"], {})


def test_an_unknown_column_is_still_one() -> None:
    for columns, roles in (({"revue": "text"}, {}), ({}, {"revue": "ignore"})):
        with pytest.raises(DataError, match="revue"):
            declare(Table.read(TABLE), Recipe(columns=columns), ["label"], roles)
    with pytest.raises(DataError, match="revue"):
        inspect({"train": Table.read(TABLE)}, columns={"revue": "ignore"})


def test_a_look_shows_it_as_a_column() -> None:
    inspection = inspect({"train": Table.read(TABLE)}, target="label", columns={"letters": LETTERS})
    assert {column.name: column.kind for column in inspection.columns}["letters"] == "text"


@pytest.mark.filterwarnings("ignore")
def test_trained_and_used(tmp_path: Any) -> None:
    trained = fit(
        TABLE,
        target="label",
        recipe=Recipe(columns={"review": "text", "letters": LETTERS}).override(["training.epochs=1", "model.size=tiny"]),
        cache=tmp_path / "cache",
        quiet=True,
    )
    assert set(trained.model.streams) == {"review", "letters"}
    (with_it, without) = trained.predict([{"review": "red"}, {"letters": "red"}])
    assert with_it.missing == []
    assert set(without.missing) == {"review", "letters"}
    assert any(step.name == "cell letters" and step.value for step in trained.trace({"review": "red"}))

"""Targets: classes or a quantity, the same in inspection and training; missing values; unseen values of later tables."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.inspection.disguised_cells import lookalike
from sensorium.data.inspection.inspect import inspect
from sensorium.data.inspection.target_types import gaps, missing_values_note, target_kind
from sensorium.data.inspection.type_inference import infer_types
from sensorium.data.inspection.unseen_values import missing_columns_note, unknown_columns, unseen_value_notes
from sensorium.data.splitting import split
from sensorium.data.tables.table import Table
from sensorium.training.column_declaration import declare

RNG = np.random.default_rng(0)
BELL = np.clip(RNG.normal(40, 8, 600).round(), 5, 90).astype(int).tolist()


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("label", [str(i % 31) for i in range(372)], "category"),
        ("cat_id", [str(i % 31) for i in range(372)], "number"),
        ("Class", [i % 40 + 100 for i in range(400)], "category"),
        ("y", [i % 30 for i in range(360)], "category"),
        ("target", BELL, "number"),
        ("y", BELL, "number"),
        ("age", [i % 60 + 20 for i in range(600)], "number"),
        ("rooms", [1, 2, 3, 2, 1, 3] * 10, "category"),
        ("sold", list(range(15)), "number"),
        ("y", [0.5, 1.5] * 30, "number"),
        ("y", ["0", "1"] * 30, "category"),
        ("price", [f"{i},5" for i in range(100)], "number"),
        ("height", [f"{150 + i % 50} cm" for i in range(100)], "number"),
        ("zip", ["02139", "10001", "94305"] * 20, "category"),
        ("word", ["a", "b"] * 9, "category"),
        ("y", [str(i * 1.37) for i in range(100)] + ["oops"], "number"),
    ],
)
def test_classes_or_quantity_agrees_between_inspect_and_fit(name: str, cells: list[Any], kind: str) -> None:
    rows = {"x": [i * 0.37 + (i % 7) for i in range(len(cells))], name: cells}
    table = Table.read(rows)
    assert target_kind(name, infer_types(table, targets=[name])[name].kind, "", cells)[0] == kind
    declared = declare(table, Recipe(), [name], {})
    looked = inspect({"train": table}, target=name)
    assert declared.reasons[name][1] == looked.targets[0].kind == kind
    message = next(column.reason for column in looked.columns if column.name == name)
    assert declared.reasons[name][2] == message


def test_label_name_gives_reason_and_remedy() -> None:
    kind, reason = target_kind("label", "number", "", [i % 31 for i in range(372)])
    assert (kind, "--as label=number" in reason, "12 times" in reason) == ("category", True, True)
    assert "--as age=category" in target_kind("age", "number", "", [i % 60 + 20 for i in range(600)])[1]


def test_missing_values_of_a_target_are_counted_and_can_be_kept() -> None:
    cells = ["None", "Mild", "Severe"] * 30
    table = Table.read({"pain": [i * 0.11 for i in range(90)], "severity": cells})
    assert gaps(cells, {"kind": "category"}) == {"None": 30}
    assert gaps(cells, {"kind": "category", "gaps": "keep"}) == {}
    assert gaps([1.5, "NA"], {"kind": "number"}) == {}
    assert "30 are 'None'" in missing_values_note("severity", cells, {"kind": "category"})
    assert any("gaps: keep" in doubt for doubt in declare(table, Recipe(), ["severity"], {}).doubts)
    assert any("gaps: keep" in warning for warning in inspect({"t": table}, target="severity").warnings)
    kept = inspect({"t": table}, target="severity", columns={"severity": {"kind": "category", "gaps": "keep"}})
    assert kept.targets[0].classes == {"None": 30, "Mild": 30, "Severe": 30}
    assert kept.targets[0].missing == {"t": 0}


def test_inferred_format_is_in_recipe_and_reason() -> None:
    table = Table.read(
        {"x": ["1,344", "2,55", "4,954"] * 10, "d": ["1/2/2020", "12/25/2020", "3/4/2020"] * 10, "y": ["a", "b"] * 15}
    )
    schema = declare(table, Recipe(), ["y"], {})
    assert schema.schema.specs()["x"]["decimal"] == "comma"
    assert schema.schema.specs()["d"]["order"] == "mdy"
    assert "decimal commas" in schema.reasons["x"][2]
    assert "months first" in schema.reasons["d"][2]


def test_contradicting_later_table_is_reported() -> None:
    train = Table.read({"d": ["1/2/2020", "3/4/2021"] * 10, "c": ["blue", "red"] * 10, "y": ["a", "b"] * 10})
    later = Table.read({"d": ["12/25/2020", "1/2/2020"], "c": ["BLUE", "red"], "y": ["A", "b"]})
    inspection = inspect({"train": train, "later": later}, target="y")
    assert "order: mdy" in inspection.problems["later"][0].problem
    assert inspection.problems["train"] == []
    message = "\n".join(inspection.warnings)
    assert "no cell decides" in message
    assert "'BLUE' was not seen in training; did you mean 'blue'? (1)" in message
    assert "A (did you mean 'a'?)" in message


def test_unreadable_cells_are_reported_before_training() -> None:
    table = Table.read({"x": ["-"] * 5 + [str(i * 1.5) for i in range(40)], "y": ["a", "b", "c"] * 15})
    inspection = inspect({"t": table}, target="y")
    assert len(inspection.problems["t"]) == 5
    assert "5 in 'x'" in "\n".join(inspection.warnings)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([base64.b64encode(RNG.bytes(90)).decode() for _ in range(20)], "base64"),
        (["data:image/png;base64,iVBORw0KGgo="] * 20, "data: URLs"),
        (["{'bytes': b'\\x89PNG', 'path': None}"] * 20, "printed objects"),
        (["[[1 2]\n [3 4]]"] * 20, "printed objects"),
        (["https://example.com/a.png"] * 3 + ["b.png"] * 17, "URLs"),
        (["a plain text, see https://example.com"] * 20, ""),
        ([f"{i:032x}" for i in range(20)], ""),
        (["red", "blue"] * 10, ""),
        ([1.5, None], ""),
    ],
)
def test_disguised_cells_are_reported(cells: list[Any], message: str) -> None:
    types = lookalike(cells, "text")
    assert message in types
    assert bool(types) == bool(message)


def fitted() -> Schema:
    schema = Schema.declare({"colour": "category", "size": "number", "y": {"kind": "category", "role": "target"}})
    for column, cells in zip(schema.columns.values(), (["blue", "red"], [1, 2], ["a", "b"]), strict=True):
        column.reader.fit(cells)
    return schema


def test_unseen_values_are_counted_with_a_similar_one() -> None:
    rows = [{"colour": "Blue", "size": 3}, {"colour": "Blue"}, {"colour": None}, {"colour": "red"}, {"colour": "mauve"}]
    (line,) = unseen_value_notes(fitted(), rows)
    assert line.startswith("column 'colour': 3 cells")
    assert "did you mean 'blue'? (2)" in line
    assert "'mauve'" in line
    assert unseen_value_notes(fitted(), [{"colour": "red"}]) == []


def test_unknown_columns_name_the_missing_one() -> None:
    schema = fitted()
    assert unknown_columns(schema, ["Colour ", "size", "y"]) == {"Colour ": "colour"}
    assert unknown_columns(schema, ["colour", "size", "weather"]) == {"weather": ""}
    note = missing_columns_note(schema, "t.csv", ["colours", "size"])
    assert "no column colour" in note
    assert "'colours' may be 'colour'" in note
    assert missing_columns_note(schema, "t.csv", ["colour", "size", "more"]) == ""


@pytest.mark.parametrize("rows", [2, 3])
def test_rare_class_keeps_a_training_row(rows: int) -> None:
    labels = [f"k{i}" for i in range(300)] * rows
    train, valid = split(Table.read({"y": labels}), target="y", part=0.15)
    assert len({labels[i] for i in train}) == 300
    assert len(valid) == round(0.15 * len(labels))
    alone = [f"k{i}" for i in range(50)] + ["k"] * 50
    train, _ = split(Table.read({"y": alone}), target="y", part=0.3)
    assert set(alone) == {alone[i] for i in train}


def test_large_integers_are_ids() -> None:
    cells = [str(10**18 + 977 * i * i) for i in range(40)]
    types = infer_types(Table.read({"key": cells, "value": [i * 1.5 for i in range(40)]}))
    assert types["key"].role == "ignore"
    assert "id" in types["key"].reason
    repeated = infer_types(Table.read({"customer": cells[:8] * 5}))["customer"]
    assert repeated.kind == "category"
    assert infer_types(Table.read({"zip": [f"{i * 977 % 100000:05d}" for i in range(60)]}))["zip"].kind == "category"


def test_decimal_commas_are_not_classes() -> None:
    train, valid = split(Table.read({"y": [f"{i // 7},{i:03d}" for i in range(200)]}), target="y", part=0.15)
    assert (len(train), len(valid)) == (170, 30)

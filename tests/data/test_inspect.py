"""Inspection: reports unusable cells, leakage and untrainable targets, with their places."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sensorium.core.errors import DataError
from sensorium.core.text_columns import columns, shorten, width
from sensorium.data.inspection.inspect import inspect
from sensorium.data.inspection.results import Inspection
from sensorium.data.inspection.target_leakage import leakage_rule
from sensorium.data.synthetic import TAGS, make
from sensorium.data.tables.table import Table

SPECS = {"photo": "image", "room": "category", "note": "text", "temperature": "number"}


def warns(inspection: Inspection, *parts: str) -> bool:
    return any(all(part in text for part in parts) for text in [*inspection.errors, *inspection.warnings])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    folder = tmp_path_factory.mktemp("house")
    paths = make(folder, rows=150, damage=True)
    # The same picture under another name, in another table.
    with paths["test"].open(encoding="utf-8") as file:
        lines = file.read().splitlines()
    first = next(i for i, line in enumerate(lines) if i and "photos/" in line)
    name = "photos/" + lines[first].split("photos/")[1][:9]
    shutil.copy(folder / "photos" / "00000.png", folder / name)
    return {name: Table.read(path) for name, path in paths.items()}


@pytest.fixture(scope="module")
def inspection(house: dict[str, Table]) -> Inspection:
    names = ("photo", "room", "note", "temperature", "event")
    tables = {n: Table({c: t.column(c) for c in names}, source=t.source, root=t.root) for n, t in house.items()}
    return inspect(tables, target="event", columns=SPECS)


def test_broken_media_are_named(inspection: Inspection) -> None:
    problems = inspection.problems["train"]
    assert len(problems) == 3
    assert {p.column for p in problems} == {"photo"}
    assert all(p.row and p.file and p.file.startswith("photos/") for p in problems)
    assert sum("no such file" in p.problem for p in problems) == 1
    assert warns(inspection, "train", "3 in 'photo'")
    assert all(p.file is not None and p.file in inspection.text() for p in problems)


def test_copied_picture_leaks(inspection: Inspection) -> None:
    assert warns(inspection, "leak", "test", "'photo'", "row 1 of train")
    assert not warns(inspection, "leak", "valid", "train:")


def test_counts_agree_with_the_tables(inspection: Inspection, house: dict[str, Table]) -> None:
    assert inspection.tables == {"train": 98, "valid": 22, "test": 30}
    events = house["train"].column("event")
    (target,) = inspection.targets
    assert target.classes == {e: events.count(e) for e in target.classes}
    assert sum(target.classes.values()) == 98
    assert target.majority == pytest.approx(max(target.classes.values()) / 98)
    for column in inspection.columns:
        cells = house["train"].column(column.name)
        assert column.filled["train"] == pytest.approx(sum(c != "" for c in cells) / 98)
        assert column.distinct == len(set(cells) - {""})
    assert sum(counts.get("train", 0) for _, counts in inspection.streams) == 98
    usable = sum(counts.get("train", 0) for streams, counts in inspection.streams if "photo" in streams)
    assert usable == sum(c != "" for c in house["train"].column("photo")) - 3


def test_json_and_text(inspection: Inspection) -> None:
    assert json.loads(json.dumps(inspection.to_json()))["tables"]["train"] == 98
    text = inspection.text()
    for part in ("photo", "image", "6 classes", "photo + table + note", "warnings"):
        assert part in text


def test_progress_and_unchecked(house: dict[str, Table]) -> None:
    calls: list[tuple[str, int, int]] = []
    tables = {"train": Table({c: house["train"].column(c) for c in ("photo", "event")}, root=house["train"].root)}
    inspect(tables, target="event", columns={"photo": "image"}, progress=lambda *call: calls.append(call))
    assert calls[-1][0] == "train: photo"
    assert calls[-1][2] == 98
    quick = inspect(tables, target="event", columns={"photo": "image"}, check_media=False)
    assert quick.problems == {"train": []}


def rows(n: int, **more: list[object]) -> Table:
    rng = np.random.default_rng(0)
    base = {"x": rng.normal(size=n).round(6).tolist(), "c": rng.choice(["a", "b", "c"], n).tolist()}
    return Table.read({**base, "y": rng.choice(["yes", "no"], n).tolist(), **more})


def look(table: Table, **others: Table) -> Inspection:
    return inspect({"train": table, **others}, target="y", columns={"x": "number", "c": "category"})


def test_clean_table_gives_no_warnings() -> None:
    table = rows(300)
    inspection = look(table.take(range(200)), valid=table.take(range(200, 300)))
    assert inspection.errors == inspection.warnings == []


def test_targets() -> None:
    assert any("one class only" in e for e in look(rows(30, y=["yes"] * 30)).errors)
    assert any("empty" in e for e in look(rows(30, y=[""] * 30)).errors)
    inspection = look(rows(60, y=["yes"] * 56 + ["no"] * 2 + [None, ""]))
    assert warns(inspection, "fewer than 5", "no")
    assert warns(inspection, "96.6%", "accuracy")
    assert warns(inspection, "2 rows without 'y'")
    valid = rows(20, y=["maybe"] * 10 + ["yes"] * 10)
    assert warns(look(rows(60), valid=valid), "valid", "does not have", "maybe")
    assert warns(look(rows(60), valid=Table.read({"x": [1.0], "c": ["a"], "q": [1]})), "cannot be scored")
    assert warns(look(rows(60), valid=Table.read({"x": [1.0], "y": ["yes"], "q": [1]})), "no column c")
    numbers = look(rows(60, y=[float(i * i % 59) + 0.5 for i in range(60)]))
    assert numbers.targets[0].range is not None
    assert numbers.targets[0].range[0] == 0.5
    same = inspect({"train": rows(60, y=[2.5] * 60)}, target="y", columns={"y": "number"})
    assert any("2.5 in every row" in e for e in same.errors)
    with pytest.raises(DataError, match="did you mean"):
        inspect({"train": rows(5)}, target="yy")


def test_repeats_and_leaks() -> None:
    table = rows(100)
    again = Table.read([*table.rows(), table.row(4), table.row(7)])
    assert warns(look(again), "2 rows repeat", "rows 5 and 101")
    other = table.take([3, 9]).with_column("y", ["no" if y == "yes" else "yes" for y in table.take([3, 9]).column("y")])
    torn = Table.read([*table.rows(), *other.rows()])
    assert warns(look(torn), "a different target", "rows 4 and 101")
    assert warns(look(table, valid=table.take([50, 60])), "leak: 2 rows of valid are in train too")
    assert not warns(look(table, valid=rows(130).take(range(120, 130))), "leak")


def test_uninformative_and_leaking_columns() -> None:
    y = rows(100).column("y")
    table = rows(100, code=["k1" if v == "yes" else "k2" for v in y], same=["z"] * 100)
    inspection = look(table)
    assert warns(inspection, "'code' gives 'y' away")
    assert warns(inspection, "'same' is ignored", "the same in every row")
    assert not warns(inspection, "'x' gives")
    assert not warns(inspection, "'c' gives")


def test_leakage_rules() -> None:
    rng = np.random.default_rng(0)
    y = rng.choice(["p", "q", "r"], 300).tolist()
    code = {"p": ["1", "2"], "q": ["3"], "r": ["4", "5"]}
    assert leakage_rule([rng.choice(code[v]) for v in y], y)
    assert leakage_rule([{"p": 0, "q": 5, "r": 9}[v] + rng.random() for v in y], y)
    assert not leakage_rule([{"p": 0, "q": 0.8, "r": 9}[v] + rng.random() for v in y], y)
    assert not leakage_rule([f"id{i}" for i in range(300)], y)
    assert not leakage_rule(rng.integers(0, 100, 300).tolist(), y)
    assert not leakage_rule(rng.random(300).tolist(), y)
    numbers = rng.random(300)
    assert leakage_rule([f"{v * 1.8 + 32:.6f}" for v in numbers], numbers.tolist())
    assert not leakage_rule((numbers + rng.normal(0, 0.1, 300)).tolist(), numbers.tolist())
    rare = ["no"] * 298 + ["yes"] * 2
    assert not leakage_rule(rng.choice(["a", "b"], 300).tolist(), rare)
    assert not leakage_rule(["a", "b"] * 5, ["p", "q"] * 5)


def test_roles_and_overrides() -> None:
    inspection = inspect({"train": rows(50)}, columns={"y": {"role": "target"}, "c": {"role": "ignore"}, "x": "category"})
    assert {c.name: (c.kind, c.role) for c in inspection.columns} == {
        "x": ("category", "input"),
        "c": ("", "ignore"),
        "y": ("category", "target"),
    }


def test_no_rows() -> None:
    assert any("no rows" in e for e in inspect({"train": Table.read({"a": [], "y": []})}, target="y").errors)


def test_a_large_table_is_inspected() -> None:
    table = rows(100_000)
    inspection = look(table)
    assert inspection.tables == {"train": 100_000}


def test_text_stays_in_columns() -> None:
    lines = list(columns([("名字", "x"), ("name", "y"), ("n", "z")]))
    assert {width(line[: line.index(c)]) for line, c in zip(lines, "xyz", strict=True)} == {6}
    assert width(shorten("很长的名字 and more", 10)) <= 10


def test_all_columns_of_the_synthetic_data_are_inferred(tmp_path: Path) -> None:
    paths = make(tmp_path, rows=120, targets=("event", "cost", "tags"), damage=True)
    inspection = inspect({n: Table.read(p) for n, p in paths.items()}, target=["event", "cost", "tags"])
    assert {c.name: c.kind for c in inspection.columns} == {
        "when": "datetime",
        "room": "category",
        "photo": "image",
        "note": "text",
        "sound": "audio",
        "sensor": "series",
        "temperature": "number",
        "event": "category",
        "cost": "number",
        "tags": "tags",
    }
    assert len(inspection.problems["train"]) == 4
    assert not inspection.problems["valid"]
    tags = next(t for t in inspection.targets if t.name == "tags")
    assert set(tags.classes) == set(TAGS)

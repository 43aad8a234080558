"""Problems of cells keep the remedy of the error that they were made from, and lists show it once per kind of problem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sensorium.core.cell_content import content
from sensorium.core.errors import DataError, SensoriumError
from sensorium.core.problem import Problem, problem_lines
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import encode
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.inspection.inspect import inspect
from sensorium.data.shards.pack import pack
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table
from sensorium.predictor import Prediction
from sensorium.reporting.cell_problems import print_problems
from sensorium.reporting.console import Console
from sensorium.sampling import _encoded
from sensorium.serve.http_errors import unreadable_cells

COLUMNS = {"x": "vector", "z": "datetime", "y": {"kind": "category", "role": "target"}}
SAME_MODEL = "make all vectors with the same model"
LIKE = "write it like 2020-12-31 or 2020-12-31 23:59"
BAD = [Problem(i, "x", None, f"bad {i}", fix=fix) for i, fix in enumerate(("mend it", None, "mend it", "draw it anew"), 1)]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Vectors in files, of which the last two are too short, and dates, of which the last is none."""
    for i in range(12):
        np.save(tmp_path / f"{i}.npy", np.full(4 if i < 10 else 3, i, np.float32))
    dates = [*(f"2020-12-{i + 10}" for i in range(11)), "soon"]
    return Table({"x": [f"{i}.npy" for i in range(12)], "z": dates, "y": ["a", "b"] * 6}, root=tmp_path)


def problems_of_rows(table: Table, schema: Schema, media: LocalFiles, folder: Path) -> list[Problem]:
    found: list[Problem] = []
    for i in range(len(table)):
        schema.encode(table.row(i), media=media, row=i + 1, problems=found)
    return found


def problems_of_a_table(table: Table, schema: Schema, media: LocalFiles, folder: Path) -> list[Problem]:
    return encode(schema, table, media=media, store=Store(folder / "store")).problems


def problems_of_an_inspection(table: Table, schema: Schema, media: LocalFiles, folder: Path) -> list[Problem]:
    kinds = {"x": {"kind": "vector"}, "z": {"kind": "datetime"}}
    return inspect({"train": table}, target="y", columns=kinds).problems["train"]


@pytest.mark.parametrize("found_by", [problems_of_rows, problems_of_a_table, problems_of_an_inspection])
def test_the_remedy_of_an_unusable_cell_is_kept(
    found_by: Callable[[Table, Schema, LocalFiles, Path], list[Problem]], table: Table, tmp_path: Path
) -> None:
    schema, media = Schema.declare(COLUMNS), LocalFiles(tmp_path)
    for column in schema.coded:
        column.reader.fit([content(column.reader, cell, media, 1, column.name) for cell in table.column(column.name)[:10]])
    found = found_by(table, schema, media, tmp_path)
    assert {(p.row, p.column, p.fix) for p in found} == {(11, "x", SAME_MODEL), (12, "x", SAME_MODEL), (12, "z", LIKE)}


def test_the_remedy_of_a_cell_that_cannot_be_packed_is_kept(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"whatever")
    table = Table({"photo": ["holiday.png", "holidays.png"]}, root=tmp_path)
    (problem,) = pack(table, tmp_path / "out", media=LocalFiles(tmp_path), columns={"photo": "image"})
    assert problem.fix is not None
    assert "holiday.png" in problem.fix


def test_a_remedy_is_printed_once_for_the_cells_that_need_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_problems(Console(), [*BAD, Problem(9, "w", None, "worse", fix="mend it")], shown=4)
    lines = [line.removeprefix("warning: ") for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "column 'x': 4 cells could not be used and count as missing",
        "  row 1, column 'x': bad 1",
        "  row 3, column 'x': bad 3",
        "    → mend it",
        "  row 2, column 'x': bad 2",
        "  row 4, column 'x': bad 4",
        "    → draw it anew",
        "column 'w': 1 cell could not be used and counts as missing",
        "  row 9, column 'w': worse",
        "    → mend it",
    ]


def test_an_inspection_lists_remedies(table: Table) -> None:
    text = inspect({"train": table}, target="y", columns={"x": {"kind": "vector"}}).text()
    assert text.count(f"    → {SAME_MODEL}") == 1
    assert text.index("row 12, column 'x'") < text.index(SAME_MODEL)


def test_cells_without_a_remedy_have_no_line_for_it() -> None:
    assert list(problem_lines(BAD[1:2])) == ["  row 2, column 'x': bad 2"]


def test_remedies_are_part_of_json() -> None:
    (told,) = Prediction({}, [], BAD[:1]).to_json()["problems"]
    assert told == {"row": 1, "column": "x", "file": None, "problem": "bad 1", "missing": True, "fix": "mend it"}
    assert [cell["fix"] for cell in unreadable_cells(BAD).details["cells"]] == [p.fix for p in BAD]


def test_a_condition_that_cannot_be_read_names_its_remedy() -> None:
    schema = Schema.declare({"z": "datetime"})
    schema.coded[0].reader.fit(["2020-12-31", "2020-12-30"])
    with pytest.raises(DataError) as caught:
        _encoded(SimpleNamespace(schema=schema), [{"z": "soon"}], 0, LocalFiles("."))  # type: ignore[arg-type]
    assert caught.value.fix == LIKE


def test_a_column_without_a_usable_cell_names_the_remedy(quick_fit: Any) -> None:
    rows = [{"z": f"soon {i}", "n": i, "y": "ab"[i % 2]} for i in range(20)]
    with pytest.raises(SensoriumError, match="no cell can be used as datetime") as caught:
        quick_fit(rows, target="y", ignore=[], columns={"z": {"kind": "datetime"}})
    assert caught.value.fix is not None
    assert caught.value.fix.startswith(f"{LIKE}; or name their kind")
    assert "--ignore z" in caught.value.fix

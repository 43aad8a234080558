"""The same rows from every source give the same schema and encoded arrays."""

from __future__ import annotations

import csv
import datetime as dt
import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.data.tables.table import Table
from sensorium.training.column_declaration import declare

ROWS = 24
Columns = dict[str, list[Any]]
AMOUNT = st.integers(-(10**7), 10**7).map(lambda n: n / 1000)
DAY = st.dates(dt.date(1990, 1, 1), dt.date(2060, 12, 31))
WORD = st.sampled_from(["red", "blue", "grün", "dark blue", "O'Neil"])
TABLES = st.fixed_dictionaries(
    {
        "amount": st.lists(AMOUNT, min_size=ROWS, max_size=ROWS, unique=True),
        "count": st.lists(st.integers(-500, 10**6), min_size=ROWS, max_size=ROWS, unique=True),
        "day": st.lists(DAY, min_size=ROWS, max_size=ROWS),
        "colour": st.lists(WORD, min_size=ROWS, max_size=ROWS),
        "flag": st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
        "label": st.lists(st.integers(0, 3), min_size=ROWS, max_size=ROWS),
    }
)


def written(cell: Any, decimal: str, group: str, day: str) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        text = f"{cell:,}" if group else repr(cell)
        return text.translate(str.maketrans({",": group, ".": decimal}))
    return format(cell, day) if isinstance(cell, dt.date) else str(cell)


def delimited(mark: str, decimal: str = ".", group: str = "", day: str = "%Y-%m-%d") -> Callable[[Columns, Path], Table]:
    def carry(columns: Columns, folder: Path) -> Table:
        path = folder / "t.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=mark)
            writer.writerow(columns)
            for row in zip(*columns.values(), strict=True):
                writer.writerow([written(cell, decimal, group, day) for cell in row])
        return Table.read(path)

    return carry


def jsonl(columns: Columns, folder: Path) -> Table:
    path = folder / "t.jsonl"
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), encoding="utf-8")
    return Table.read(path)


def parquet(columns: Columns, folder: Path) -> Table:
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return Table.read(folder / "t.parquet")


def days(columns: Columns) -> pd.DataFrame:
    return pd.DataFrame(columns).assign(day=pd.to_datetime(pd.Series(columns["day"])))


def through_csv(columns: Columns, folder: Path) -> Table:
    pd.DataFrame(columns).to_csv(folder / "p.csv", index=False)
    return Table.read(pd.read_csv(folder / "p.csv"))


def scalars(columns: Columns, folder: Path) -> Table:
    return Table.read({name: list(pa.array(cells)) for name, cells in columns.items()})


def polars(columns: Columns, folder: Path) -> Table:
    import polars as pl

    return Table.read(pl.DataFrame(columns))


CARRIERS: dict[str, Callable[[Columns, Path], Table]] = {
    "python": lambda columns, folder: Table.read(columns),
    "comma": delimited(","),
    "semicolon, decimal comma": delimited(";", ","),
    "semicolon, decimal comma, thousands": delimited(";", ",", "."),
    "tab, thousands": delimited("\t", ".", ","),
    "compact days": delimited(",", day="%Y%m%d"),
    "days first": delimited(",", day="%d/%m/%Y"),
    "months first": delimited(",", day="%m/%d/%Y"),
    "months by name": delimited(",", day="%d %b %Y"),
    "pipe": delimited("|"),
    "jsonl": jsonl,
    "parquet": parquet,
    "arrow": lambda columns, folder: Table.read(pa.table(columns)),
    "arrow scalars": scalars,
    "pandas": lambda columns, folder: Table.read(days(columns)),
    "pandas nullable": lambda columns, folder: Table.read(days(columns).convert_dtypes()),
    "pandas from csv": through_csv,
}
if importlib.util.find_spec("polars") is not None:
    CARRIERS["polars"] = polars


def encoded(table: Table) -> tuple[dict[str, Any], dict[str, Any], dict[str, list[Any]]]:
    """Kinds, answers, and arrays by column."""
    schema: Schema = declare(table, Recipe(), ["label"], {}).schema
    arrays: dict[str, list[Any]] = {}
    problems: list[Any] = []
    for column in [*schema.inputs, *schema.targets]:
        cells = table.column(column.name)
        column.reader.fit([cell for cell in cells if not column.reader.missing(cell)])
        arrays[column.name] = [schema.encode_cell(column, cell, media=UPLOADS_ONLY, problems=problems) for cell in cells]
    assert problems == []
    label = schema.columns["label"].reader
    answers = {name: label.decode(np.array([i])) for i, name in enumerate(label.classes)}  # type: ignore[attr-defined]
    return {c.name: (c.role, c.spec.get("kind", "")) for c in schema.columns.values()}, answers, arrays


@pytest.mark.parametrize("name", [name for name in CARRIERS if name != "python"])
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a failure names its source, column, row and cell
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(columns=TABLES, holes=st.integers(0, 10**6))
def test_every_source_gives_the_same(name: str, columns: Columns, holes: int, tmp_path: Path) -> None:
    if name == "pipe" and "pipe" not in _dialects(tmp_path):
        pytest.skip("tables with | between cells are not read yet")
    columns["amount"][:3] = [2.55, 1234.5, 1234567.25]  # cells that decide how the column is written
    columns["day"][:2] = [dt.date(2020, 12, 25), dt.date(2021, 1, 31)]
    columns["label"][:6] = [0, 1, 2, 0, 1, 2]
    columns["colour"][:4] = ["red", "blue", "red", "grün"]
    columns["flag"][:4] = [True, False, True, False]
    drawn = random.Random(holes)
    for column in ("amount", "colour", "day"):
        for row in range(6, ROWS):
            if drawn.random() < 0.1:
                columns[column][row] = None
    kinds, answers, arrays = encoded(CARRIERS["python"](columns, tmp_path))
    assert kinds == {
        "amount": ("input", "number"),
        "count": ("input", "number"),
        "day": ("input", "datetime"),
        "colour": ("input", "category"),
        "flag": ("input", "category"),
        "label": ("target", "category"),
    }
    others = encoded(CARRIERS[name](columns, tmp_path))
    assert others[0] == kinds
    assert others[1] == answers
    for column, expected in arrays.items():
        for row, (one, other) in enumerate(zip(expected, others[2][column], strict=True)):
            same = (one is None and other is None) or np.allclose(one, other, rtol=1e-6, atol=1e-6)
            assert same, (column, row, columns[column][row], one, other)


def _dialects(folder: Path) -> set[str]:
    """The dialects, of those that not every version reads, that are read here."""
    path = folder / "dialect.csv"
    path.write_text("a|b\n1|2\n", encoding="utf-8")
    return {"pipe"} if len(Table.read(path).columns) == 2 else set()

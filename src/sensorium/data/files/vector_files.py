"""Vectors of rows as files: ``.npy`` for arrays alone, ``.csv``, ``.jsonl`` and ``.parquet`` with whose they are."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import MissingExtraError

FORMATS = (".npy", ".csv", ".jsonl", ".parquet")
GROUP = 4096
"""Rows of a row group of Parquet."""
MARK = {b"sensorium": b"vectors"}


class Vector(NamedTuple):
    """The vector of one row, float32 ``[D]``.

    Args:
        row: The row's number, counted from 1.
        kept: Cells of the row's own, by column.
        missing: Streams that the row did not have.
    """

    row: int
    kept: dict[str, Any]
    missing: list[str]
    values: NDArray[np.float32]


def write(path: Path, found: Iterable[Vector]) -> int:
    """The file, whole or not at all, in the format of its ending; how many vectors there are."""
    part = path.with_name(f".{path.name}.part")
    try:
        count = WRITERS[path.suffix](part, found)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return count


def write_csv(file: IO[str], found: Iterable[Vector]) -> int:
    """A line a row: its number, what is kept of it, what was missing, and the numbers, which read back to the same bits."""
    writer, count = csv.writer(file), 0
    for count, one in enumerate(found, 1):
        if count == 1:
            writer.writerow(["row", *one.kept, "missing", *(f"vector_{i}" for i in range(len(one.values)))])
        writer.writerow([one.row, *one.kept.values(), " ".join(one.missing), *map(str, one.values)])
    return count


def _csv(part: Path, found: Iterable[Vector]) -> int:
    with open(part, "w", newline="", encoding="utf-8") as file:
        return write_csv(file, found)


def _jsonl(part: Path, found: Iterable[Vector]) -> int:
    count = 0
    with open(part, "w", encoding="utf-8") as file:
        for one in found:
            count += 1
            kept = {"keep": one.kept} if one.kept else {}
            line = {"row": one.row, **kept, "missing": one.missing, "vector": one.values.tolist()}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return count


def _npy(part: Path, found: Iterable[Vector]) -> int:
    every = [one.values for one in found]
    with open(part, "wb") as file:
        np.save(file, np.stack(every) if every else np.zeros((0, 0), np.float32), allow_pickle=False)
    return len(every)


def _parquet(part: Path, found: Iterable[Vector]) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("writing .parquet files", "data") from None
    rest = iter(found)
    first = next(rest, None)
    kept, width = ([], 0) if first is None else (list(first.kept), len(first.values))
    fields = [pa.field("row", pa.int64()), *(pa.field(name, pa.string()) for name in kept)]
    fields += [pa.field("missing", pa.string()), pa.field("vector", pa.list_(pa.float32(), width))]
    schema, count = pa.schema(fields, metadata=MARK), 0
    with parquet.ParquetWriter(part, schema) as writer:
        for some in _groups(rest if first is None else chain([first], rest)):
            flat = pa.array(np.concatenate([one.values for one in some]), pa.float32())
            columns = [pa.array([one.row for one in some], pa.int64())]
            columns += [pa.array([_text(one.kept[name]) for one in some], pa.string()) for name in kept]
            columns += [pa.array([" ".join(one.missing) for one in some]), pa.FixedSizeListArray.from_arrays(flat, width)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(some)
    return count


def _groups(found: Iterator[Vector]) -> Iterator[list[Vector]]:
    while some := list(islice(found, GROUP)):
        yield some


def _text(cell: Any) -> str | None:
    return None if cell is None else str(cell)


WRITERS = {".npy": _npy, ".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def marked(path: Path) -> bool:
    """Whether a Parquet file holds such vectors."""
    from pyarrow import parquet

    found = parquet.read_schema(path).metadata or {}
    return all(found.get(key) == value for key, value in MARK.items())

"""Files of row vectors: ``.npy`` for the array alone; the others with row numbers and kept cells too."""

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
GROUP_ROWS = 4096
"""Rows in a row group of Parquet."""
MARK = {b"sensorium": b"vectors"}
"""Schema metadata that marks a Parquet file as one of vectors."""


class Vector(NamedTuple):
    """The vector of one row.

    Args:
        row: Row number, counted from 1.
        kept: Cells of the row that are copied to the file, by column.
        missing: Streams that the row lacks.
        values: float32 ``[D]``.
    """

    row: int
    kept: dict[str, Any]
    missing: list[str]
    values: NDArray[np.float32]


def write(path: Path, vectors: Iterable[Vector]) -> int:
    """Write ``vectors`` atomically to ``path``, in the format of its suffix; return their number."""
    part = path.with_name(f".{path.name}.part")
    try:
        count = WRITERS[path.suffix](part, vectors)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return count


def write_csv(file: IO[str], vectors: Iterable[Vector]) -> int:
    """Write ``vectors`` as CSV lines to ``file`` and return their number.

    A line has the row number, kept cells, missing streams and the values, which read back bit-identically.
    """
    writer, count = csv.writer(file), 0
    for count, vector in enumerate(vectors, 1):
        if count == 1:
            writer.writerow(["row", *vector.kept, "missing", *(f"vector_{i}" for i in range(len(vector.values)))])
        writer.writerow([vector.row, *vector.kept.values(), " ".join(vector.missing), *map(str, vector.values)])
    return count


def _csv(part: Path, vectors: Iterable[Vector]) -> int:
    with open(part, "w", newline="", encoding="utf-8") as file:
        return write_csv(file, vectors)


def _jsonl(part: Path, vectors: Iterable[Vector]) -> int:
    count = 0
    with open(part, "w", encoding="utf-8") as file:
        for vector in vectors:
            count += 1
            kept = {"keep": vector.kept} if vector.kept else {}
            line = {"row": vector.row, **kept, "missing": vector.missing, "vector": vector.values.tolist()}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return count


def _npy(part: Path, vectors: Iterable[Vector]) -> int:
    rows = [vector.values for vector in vectors]
    with open(part, "wb") as file:
        np.save(file, np.stack(rows) if rows else np.zeros((0, 0), np.float32), allow_pickle=False)
    return len(rows)


def _parquet(part: Path, vectors: Iterable[Vector]) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("writing .parquet files", "data") from None
    rest = iter(vectors)
    first = next(rest, None)
    kept, width = ([], 0) if first is None else (list(first.kept), len(first.values))
    fields = [pa.field("row", pa.int64()), *(pa.field(name, pa.string()) for name in kept)]
    fields += [pa.field("missing", pa.string()), pa.field("vector", pa.list_(pa.float32(), width))]
    schema, count = pa.schema(fields, metadata=MARK), 0
    with parquet.ParquetWriter(part, schema) as writer:
        for batch in _groups(rest if first is None else chain([first], rest)):
            flat = pa.array(np.concatenate([vector.values for vector in batch]), pa.float32())
            columns = [pa.array([vector.row for vector in batch], pa.int64())]
            columns += [pa.array([_text(vector.kept[name]) for vector in batch], pa.string()) for name in kept]
            columns += [
                pa.array([" ".join(vector.missing) for vector in batch]),
                pa.FixedSizeListArray.from_arrays(flat, width),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(batch)
    return count


def _groups(vectors: Iterator[Vector]) -> Iterator[list[Vector]]:
    while batch := list(islice(vectors, GROUP_ROWS)):
        yield batch


def _text(cell: Any) -> str | None:
    return None if cell is None else str(cell)


WRITERS = {".npy": _npy, ".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def has_vectors(path: Path) -> bool:
    """Return whether the Parquet file at ``path`` is one of vectors."""
    from pyarrow import parquet

    metadata = parquet.read_schema(path).metadata or {}
    return all(metadata.get(key) == value for key, value in MARK.items())

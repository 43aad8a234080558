"""Series of readings out of files: CSV, TSV, NPY and Parquet."""

from __future__ import annotations

import io
import json
from itertools import islice
from typing import Any

import numpy as np

from sensorium.codecs.npy import npy_array
from sensorium.core.errors import CellError, MissingExtraError, reason
from sensorium.core.modality import Array, Blob

VALUES = 2**25
"""Parquet files that say they hold more are refused: a run of one value is a few bytes in them, however long."""

_EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})


def read_series(blob: Blob, most: int) -> Array:
    """The readings in a file as ``[T, C]`` float64, NaN where there is none. Raises ``CellError`` on anything else.

    No more than the first ``most`` steps of a text file are looked at; other kinds come whole.
    """
    data, name = blob
    if not data:
        raise CellError("the file is empty", file=name)
    try:
        if data.startswith(b"\x93NUMPY"):
            return to_steps(npy_array(data))
        if data.startswith(b"PAR1"):
            return to_steps(_parquet(data))
        if data.lstrip()[:1] == b"[":
            return to_steps(json.loads(data))
        return _delimited(data, most)
    except CellError as error:
        raise CellError(error.problem, file=name, fix=error.fix) from None
    except (ValueError, RecursionError) as error:
        raise CellError(f"not a series that can be read ({reason(error)})", file=name) from None


def to_steps(cell: Any) -> Array:
    """An array or (nested) list of ``[T]`` or ``[T, C]`` numbers as ``[T, C]`` float64; None in a list is a gap.

    ``[T, J, 3]``, joints that move (motion capture), has ``3 J`` channels.
    """
    try:
        array = np.asarray(cell)
        if array.dtype.kind == "O":
            array = np.array(cell, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise CellError("the steps are not all numbers, or not all of the same count") from None
    if array.dtype.kind not in "buif" or array.ndim not in (1, 2, 3) or array.size == 0:
        raise CellError(
            f"an array of shape {array.shape} and type {array.dtype} is not a series",
            fix="use [T], [T, channels] or [T, joints, coordinates]",
        )
    return array.astype(np.float64).reshape(len(array), -1)


def _parquet(data: bytes) -> Array:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("reading Parquet", "data") from None
    try:
        shape = parquet.read_metadata(io.BytesIO(data))
        if shape.num_rows * shape.num_columns > VALUES:
            problem = f"{shape.num_rows} rows of {shape.num_columns} columns are more than the {VALUES} values allowed"
            raise CellError(problem, fix="cut it into pieces")
        table = parquet.read_table(io.BytesIO(data), use_threads=False)
    except (arrow.ArrowException, OSError) as error:
        raise CellError(f"not a Parquet file that can be read ({reason(error)})") from None
    number = [f.name for f in table.schema if arrow.types.is_integer(f.type) or arrow.types.is_floating(f.type)]
    if not number:
        raise CellError("the Parquet file has no column of numbers")
    columns = [table.column(name).cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False) for name in number]
    return np.stack(columns, axis=1)


def _delimited(data: bytes, most: int) -> Array:
    """Rows of numbers from text. A first row without numbers is a header."""
    text = data.decode("utf-8-sig")
    if "\0" in text:
        raise CellError("not a text file")
    # Line by line, so that a file of a hundred million lines costs no more than those that are wanted.
    lines = list(islice((line for line in io.StringIO(text, newline=None) if line.strip()), most + 1))
    if not lines:
        raise CellError("the file has no line")
    # Decided by the last line: a header may hold anything.
    mark = next((mark for mark in ("\t", ";", ",") if mark in lines[-1]), None)
    rows = [[cell.strip().strip('"') for cell in line.split(mark)] for line in lines]
    if all(_number(cell, mark) is None for cell in rows[0]) and any(cell.lower() not in _EMPTY for cell in rows[0]):
        del rows[0]
    rows = rows[:most]
    if not rows:
        raise CellError("the file has a header and no numbers")
    out = np.full((len(rows), len(rows[0])), np.nan)
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise CellError(f"row {i + 1} has {len(row)} numbers, the first has {len(rows[0])}")
        for j, cell in enumerate(row):
            value = np.nan if cell.lower() in _EMPTY else _number(cell, mark)
            if value is None:
                raise CellError(f"row {i + 1} has {cell[:40]!r}, which is not a number")
            out[i, j] = value
    return out


def _number(cell: str, mark: str | None) -> float | None:
    """The number in a cell; where the comma does not part cells, it may be a decimal one."""
    try:
        return float(cell if mark == "," else cell.replace(",", "."))
    except ValueError:
        return None

"""Time series decoder: CSV, TSV, JSON, NPY and Parquet."""

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
"""Maximum number of values of a Parquet file, in which any run of one value is only a few bytes."""

_EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})


def read_series(blob: Blob, most: int) -> Array:
    """Decode a time series to ``[T, C]`` float64, with NaN for missing values.

    Args:
        blob: The file.
        most: Maximum number of steps to read from a text file; other formats are read completely.

    Raises:
        CellError: The file is not a series of numbers.
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
        raise CellError(f"the series cannot be read ({reason(error)})", file=name) from None


def to_steps(cell: Any) -> Array:
    """Return the array or nested list ``cell`` (``[T]`` or ``[T, C]``) as ``[T, C]`` float64; None becomes NaN.

    ``[T, J, 3]`` (motion capture of J joints) has ``3 J`` channels.
    """
    try:
        array = np.asarray(cell)
        if array.dtype.kind == "O":
            array = np.array(cell, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise CellError("the steps are not numbers, or have different numbers of channels") from None
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
            raise CellError(problem, fix="split it")
        table = parquet.read_table(io.BytesIO(data), use_threads=False)
    except (arrow.ArrowException, OSError) as error:
        raise CellError(f"the Parquet file cannot be read ({reason(error)})") from None
    numeric = [f.name for f in table.schema if arrow.types.is_integer(f.type) or arrow.types.is_floating(f.type)]
    if not numeric:
        raise CellError("the Parquet file has no numeric column")
    columns = [table.column(name).cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False) for name in numeric]
    return np.stack(columns, axis=1)


def _delimited(data: bytes, most: int) -> Array:
    """Parse delimited text. A first row without numbers is a header."""
    text = data.decode("utf-8-sig")
    if "\0" in text:
        raise CellError("not a text file")
    # Line by line, so that a huge file costs no more than the wanted lines.
    lines = list(islice((line for line in io.StringIO(text, newline=None) if line.strip()), most + 1))
    if not lines:
        raise CellError("the file has no lines")
    # Decided by the last line, since a header may contain anything.
    delimiter = next((delimiter for delimiter in ("\t", ";", ",") if delimiter in lines[-1]), None)
    rows = [[cell.strip().strip('"') for cell in line.split(delimiter)] for line in lines]
    if all(_number(cell, delimiter) is None for cell in rows[0]) and any(cell.lower() not in _EMPTY for cell in rows[0]):
        del rows[0]
    rows = rows[:most]
    if not rows:
        raise CellError("the file has a header but no numbers")
    out = np.full((len(rows), len(rows[0])), np.nan)
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise CellError(f"row {i + 1} has {len(row)} numbers, the first has {len(rows[0])}")
        for j, cell in enumerate(row):
            value = np.nan if cell.lower() in _EMPTY else _number(cell, delimiter)
            if value is None:
                raise CellError(f"row {i + 1} has {cell[:40]!r}, which is not a number")
            out[i, j] = value
    return out


def _number(cell: str, delimiter: str | None) -> float | None:
    """Parse a number; a comma is a decimal separator if it does not separate cells."""
    try:
        return float(cell if delimiter == "," else cell.replace(",", "."))
    except ValueError:
        return None

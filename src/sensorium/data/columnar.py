"""Parquet, Arrow and Feather through pyarrow, and frames of pandas: columns as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError, MissingExtraError
from sensorium.data.delimited import column_names


def read_columnar(path: Path) -> dict[str, list[Any]]:
    """The columns of a Parquet, Arrow (file or stream) or Feather file as Python values."""
    try:
        import pyarrow as pa
        from pyarrow import feather, ipc, parquet
    except ImportError:
        raise MissingExtraError(f"reading {path.suffix} files", "data") from None
    try:
        if path.suffix.lower() == ".parquet":
            # As a file object: a path would be taken for a data set, with columns guessed from folder names.
            with path.open("rb") as file:
                table = parquet.ParquetFile(file).read()
        else:
            with path.open("rb") as file:
                stream = file.read(6) != b"ARROW1" and path.suffix.lower() == ".arrow"
                file.seek(0)
                table = ipc.open_stream(file).read_all() if stream else feather.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read as {path.suffix}: {error}", file=path, fix="write the file again") from None
    return from_arrow(table, path)


def from_arrow(table: Any, source: Path | str) -> dict[str, list[Any]]:
    """The columns of a ``pyarrow.Table``."""
    names = column_names(table.column_names, source)
    return {name: column.to_pylist() for name, column in zip(names, table.columns, strict=True)}


def from_frame(frame: Any, source: str) -> dict[str, list[Any]]:
    """The columns of a pandas DataFrame; NaN, NaT and NA become None, the index is left out."""
    names = column_names([str(name) for name in frame.columns], source)
    columns: dict[str, list[Any]] = {}
    for i, name in enumerate(names):
        series = frame.iloc[:, i]
        blank = series.isna().tolist()
        columns[name] = [None if b else cell for cell, b in zip(series.tolist(), blank, strict=True)]
    return columns

"""Parquet, Arrow and Feather files, and frames of pandas, polars, Arrow and Hugging Face, as columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError, MissingExtraError
from sensorium.data.tables.conversations import spread
from sensorium.data.tables.delimited import column_names
from sensorium.data.tables.text_encoding import AddNote

_INDEX = re.compile(r"__index_level_\d+__")


def read_columnar(path: Path, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Read a Parquet, Arrow (file or stream) or Feather file as columns of Python values.

    Args:
        path: The file; its suffix gives the format.
        add_note: Receives notes on values that could not be read.
    """
    try:
        import pyarrow as pa
        from pyarrow import feather, ipc, parquet
    except ImportError:
        raise MissingExtraError(f"reading {path.suffix} files", "data") from None
    try:
        if path.suffix.lower() == ".parquet":
            # As a file object: pyarrow takes a path for a data set and derives columns from folder names.
            with path.open("rb") as file:
                table = parquet.ParquetFile(file).read()
        else:
            with path.open("rb") as file:
                stream = file.read(6) != b"ARROW1" and path.suffix.lower() == ".arrow"
                file.seek(0)
                table = ipc.open_stream(file).read_all() if stream else feather.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read as {path.suffix}: {error}", file=path, fix="write the file again") from None
    return spread(from_arrow(table, path, add_note), path, add_note)


def from_arrow(table: Any, source: Path | str, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Return the columns of a ``pyarrow.Table``, without the unnamed index that pandas stores.

    A value that Python cannot represent (a day in the year 11000) becomes a missing cell; times of an unknown zone are read
    as UTC. Both are reported.

    Args:
        table: The Arrow table.
        source: What messages call it.
        add_note: Receives the notes.
    """
    index = _pandas_index(table.schema.metadata or {})
    kept = [i for i, name in enumerate(table.column_names) if name not in index]
    names = column_names([table.column_names[i] for i in kept], source)
    return {name: _values(table.column(i), name, source, add_note) for name, i in zip(names, kept, strict=True)}


def _pandas_index(metadata: dict[bytes, bytes]) -> set[str]:
    try:
        columns = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        return set()
    return {name for name in columns if isinstance(name, str) and _INDEX.fullmatch(name)}


def _values(column: Any, name: str, source: Path | str, add_note: AddNote) -> list[Any]:
    unrepresentable = (OverflowError, ValueError, KeyError, ImportError)  # includes Arrow's errors and unknown zones
    try:
        return list(column.to_pylist())
    except unrepresentable:
        pass
    column = _without_zone(column, name, source, add_note)
    cells: list[Any] = []
    unreadable: list[tuple[int, str]] = []
    for i, scalar in enumerate(column):
        try:
            cells.append(scalar.as_py())
        except unrepresentable as error:
            cells.append(None)
            unreadable.append((i + 1, str(error)))
    if unreadable:
        row, why = unreadable[0]
        cells_have = f"{len(unreadable)} cells have" if len(unreadable) > 1 else "a cell has"
        add_note(
            f"{source}, row {row}, column {name!r}: {cells_have} a value that cannot be used ({why[:80]}): taken as missing"
        )
    return cells


def _without_zone(column: Any, name: str, source: Path | str, add_note: AddNote) -> Any:
    """Times of an unknown zone as UTC."""
    import pyarrow as pa

    kind = column.type
    if not pa.types.is_timestamp(kind) or kind.tz is None or not len(column):
        return column
    try:
        pa.scalar(0, kind).as_py()
    except (ValueError, KeyError):
        add_note(f"{source}, column {name!r}: the time zone {kind.tz!r} is not known: its times are read as UTC")
        return column.cast(pa.timestamp(kind.unit, "UTC"))
    return column


def from_frame(frame: Any, source: str) -> dict[str, list[Any]]:
    """Return the columns of a pandas DataFrame; NaN, NaT and NA become None, the index is left out.

    Args:
        frame: The DataFrame.
        source: What messages call it.
    """
    names = column_names([str(name) for name in frame.columns], source)
    columns: dict[str, list[Any]] = {}
    for i, name in enumerate(names):
        series = frame.iloc[:, i]
        blank = series.isna().tolist()
        columns[name] = [None if b else cell for cell, b in zip(series.tolist(), blank, strict=True)]
    return columns


def from_polars(frame: Any, source: str) -> dict[str, list[Any]]:
    """Return the columns of a polars DataFrame or LazyFrame; NaN becomes None.

    Args:
        frame: The frame.
        source: What messages call it.
    """
    frame = frame if hasattr(frame, "get_columns") else frame.collect()
    columns = frame.get_columns()
    names = column_names([column.name for column in columns], source)
    return {name: [None if cell != cell else cell for cell in c.to_list()] for name, c in zip(names, columns, strict=True)}


def from_dataset(dataset: Any, source: str, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Return the columns of a Hugging Face ``Dataset``: media as stored bytes or paths, classes by name.

    Args:
        dataset: The data set.
        source: What messages call it.
        add_note: Receives notes on values that could not be read.
    """
    table = dataset.with_format("arrow")[:]  # media undecoded, selected rows only
    columns = from_arrow(table, source, add_note)
    for name, feature in dataset.features.items():
        labels = getattr(feature, "names", None)
        if labels and hasattr(feature, "int2str") and name in columns:
            columns[name] = [_label(cell, labels) for cell in columns[name]]
    return columns


def _label(cell: Any, labels: list[str]) -> Any:
    if isinstance(cell, list):
        return [_label(part, labels) for part in cell]
    return labels[cell] if isinstance(cell, int) and 0 <= cell < len(labels) else None


Source = tuple[str, Callable[[Any], bool], Callable[[Any, str, AddNote], dict[str, list[Any]]]]
FRAMES: tuple[Source, ...] = (
    ("<frame>", lambda s: hasattr(s, "iloc") and hasattr(s, "columns"), lambda s, name, _: from_frame(s, name)),
    ("<arrow>", lambda s: hasattr(s, "to_pydict") and hasattr(s, "column_names"), from_arrow),
    ("<dataset>", lambda s: all(hasattr(s, a) for a in ("features", "column_names", "with_format")), from_dataset),
    (
        "<frame>",
        lambda s: type(s).__module__.partition(".")[0] == "polars" and type(s).__name__ in ("DataFrame", "LazyFrame"),
        lambda s, name, _: from_polars(s, name),
    ),
)
"""Supported frames: the name in messages, a test that recognises one, and the function that returns its columns."""

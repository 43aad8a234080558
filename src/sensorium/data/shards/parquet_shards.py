"""Parquet shards, read in order with the bytes of their media or with references to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError, MissingExtraError
from sensorium.core.modality import Blob
from sensorium.data.shards.references import InParquet, plain_path

Record = dict[str, Any]


def count(path: Path) -> int:
    """Return the number of rows of the shard at ``path``, from its footer."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def names(path: Path) -> list[str]:
    """Return the column names of the shard at ``path``, from its footer."""
    with _opened(path) as file:
        return [str(name) for name in file.schema_arrow.names]


def records(path: Path, start: int = 0, *, load: bool = False) -> Iterator[Record]:
    """Yield the rows of a shard, holding one row group in memory.

    Args:
        path: The shard.
        start: The first row.
        load: Whether media cells are read; otherwise they are references.
    """
    shard = plain_path(path)
    with _opened(path) as file:
        import pyarrow as pa

        media = {name: shape for field in file.schema_arrow if (shape := _shape(name := str(field.name), field.type, pa))}
        columns = list(file.schema_arrow.names)
        first = 0
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first + rows > start:
                yield from _group(file, group, columns, media, shard, max(0, start - first), load)
            first += rows


def _group(
    file: Any, group: int, names: list[str], media: dict[str, str], shard: str, start: int, load: bool
) -> Iterator[Record]:
    # For references, only the names of media are read.
    read_names = [name if load or name not in media else media[name] for name in names]
    table = file.read_row_group(group, columns=read_names)
    columns = {name: table.column(name).to_pylist() for name in names}
    for row in range(start, len(table)):
        record = {}
        for name, cells in columns.items():
            value = cells[row]
            if name in media and value is not None:
                value = _loaded(value) if load else _reference(value, InParquet("<bytes>", shard, name, group, row))
            record[name] = value
        yield record


def _shape(name: str, kind: Any, pa: Any) -> str | None:
    """The column to read for names and presence of a media column; None for other columns."""
    types = pa.types
    if types.is_binary(kind) or types.is_large_binary(kind):
        return name  # only the bytes show which are missing
    inner = kind.value_type if types.is_list(kind) or types.is_large_list(kind) else kind
    if not types.is_struct(inner) or {inner.field(i).name for i in range(inner.num_fields)} != {"bytes", "path"}:
        return None
    return f"{name}.path" if inner is kind else f"{name}.list.element.path"


def _reference(value: Any, cell: InParquet) -> Any:
    def at(media: Any, part: int | None) -> InParquet:
        called = media.get("path") if isinstance(media, dict) else None
        return InParquet(called or cell.name, cell.shard, cell.column, cell.group, cell.row, part)

    return [at(part, i) for i, part in enumerate(value)] if isinstance(value, list) else at(value, None)


def _loaded(value: Any) -> Any:
    if isinstance(value, list):
        return [_loaded(part) for part in value]
    if isinstance(value, dict):
        return Blob(value["bytes"] or b"", value.get("path") or "<bytes>")
    return Blob(value, "<bytes>")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A Parquet file, closed at the end; errors of the reader become ``DataError`` with its name."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("reading .parquet files", "data") from None
    try:
        # As a file object: a path would be taken for a data set, with columns guessed from folder names.
        with path.open("rb") as file:
            yield parquet.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read as Parquet: {error}", file=path, fix="pack it again") from None

"""A table in memory, read from a file, a frame or plain Python."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError, nearest
from sensorium.data.columnar import from_arrow, from_frame, read_columnar
from sensorium.data.delimited import read_delimited
from sensorium.data.jsonl import from_records, read_jsonl
from sensorium.data.nearby import nearby
from sensorium.data.shards import is_sharded, read_shards

READERS = {
    ".csv": lambda path: read_delimited(path, None),
    ".tsv": lambda path: read_delimited(path, "\t"),
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_columnar,
    ".arrow": read_columnar,
    ".feather": read_columnar,
    ".tar": read_shards,
}


class Table:
    """Rows and named columns in memory; a cell is whatever the source had (CSV: text) and is read by its modality.

    Args:
        source: What messages call it: the file's path, or ``<rows>`` and the like.
        root: The folder that relative media paths start from; by default that of the file, else the current one.
        numbers: For each row, its number in the source, counted from 1, so that a part of a table still names rows rightly.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        *,
        source: str = "<table>",
        root: Path | None = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._cells = {name: cells if isinstance(cells, list) else list(cells) for name, cells in columns.items()}
        self.source = source
        self.root = root
        lengths = {name: len(cells) for name, cells in self._cells.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise DataError(
                f"the columns differ in length: {said}", file=source, fix="give each column a cell for every row"
            )
        self._rows = next(iter(lengths.values()), len(numbers or ()))
        self._numbers = numbers

    @classmethod
    def read(cls, source: Any, *, root: Path | str | None = None) -> Table:
        """A table from a path (.csv .jsonl .parquet …, a folder of shards), a DataFrame, rows, columns or a Table.

        Args:
            root: The folder that relative media paths start from, where it is not the table's own.
        """
        given = None if root is None else Path(root)
        if isinstance(source, Table):
            return source if given is None else source._with(source._cells, root=given)
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            return cls(_read(path), source=str(path), root=given or path.absolute().parent)
        root = given or Path.cwd()
        if hasattr(source, "iloc") and hasattr(source, "columns"):
            return cls(from_frame(source, "<frame>"), source="<frame>", root=root)
        if hasattr(source, "to_pydict") and hasattr(source, "column_names"):
            return cls(from_arrow(source, "<arrow>"), source="<arrow>", root=root)
        if isinstance(source, Mapping):
            for name, cells in source.items():
                if isinstance(cells, (str, bytes)) or not isinstance(cells, Iterable):
                    fix = "for one row write [{column: cell}], for columns {column: [cell, ...]}"
                    raise DataError(f"not a column of cells: {cells!r:.60}", file="<columns>", column=str(name), fix=fix)
            return cls({str(name): _plain(cells) for name, cells in source.items()}, source="<columns>", root=root)
        if isinstance(source, Iterable) and not isinstance(source, (bytes, bytearray)):
            records = list(source)
            # The numbers tell how many rows there are where none has a cell.
            numbers = range(1, len(records) + 1)
            return cls(from_records(records, "<rows>"), source="<rows>", root=root, numbers=numbers)
        fix = "give a path, a DataFrame, a list of rows ({column: cell}) or columns ({column: [cells]})"
        raise DataError(f"a {type(source).__name__} is not a table", fix=fix)

    @property
    def columns(self) -> list[str]:
        """The names, in order."""
        return list(self._cells)

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        return f"Table({self.source}: {len(self)} rows; {', '.join(self.columns)})"

    def has(self, name: str) -> bool:
        return name in self._cells

    def column(self, name: str) -> list[Any]:
        """All cells of a column. Not a copy: do not change it."""
        if name not in self._cells:
            raise DataError(f"no column named {name!r}{nearest(name, self.columns)}", file=self.source)
        return self._cells[name]

    def row(self, i: int) -> dict[str, Any]:
        return {name: cells[i] for name, cells in self._cells.items()}

    def rows(self) -> Iterator[dict[str, Any]]:
        return (self.row(i) for i in range(len(self)))

    def number(self, i: int) -> int:
        """The number of row ``i`` in the source, counted from 1: what messages say."""
        return i + 1 if self._numbers is None else self._numbers[i]

    def take(self, indices: Iterable[int]) -> Table:
        """The rows at ``indices``, in that order."""
        index = [int(i) for i in indices]
        cells = {name: [column[i] for i in index] for name, column in self._cells.items()}
        return self._with(cells, numbers=[self.number(i) for i in index])

    def with_column(self, name: str, values: Sequence[Any]) -> Table:
        """The same table with a column added or replaced."""
        return self._with({**self._cells, name: list(values)})

    def _with(
        self, cells: dict[str, list[Any]], *, root: Path | None = None, numbers: Sequence[int] | None = None
    ) -> Table:
        return Table(cells, source=self.source, root=root or self.root, numbers=numbers or self._numbers)


def _plain(cells: Any) -> list[Any]:
    one_axis = getattr(cells, "ndim", 0) == 1 and hasattr(cells, "tolist")
    return list(cells.tolist()) if one_axis else list(cells)


def _read(path: Path) -> dict[str, list[Any]]:
    reader = READERS.get(path.suffix.lower())
    if is_sharded(path):
        return read_shards(path)
    if path.is_dir():
        raise DataError("is a folder, not a table", file=path, fix=f"name a file in it: {', '.join(READERS)}")
    if not path.exists():
        raise DataError("no such file", file=path, fix=nearby(path))
    if not path.is_file():
        raise DataError("is not a regular file", file=path)
    if reader is None:
        raise DataError(
            f"cannot tell what {path.suffix or 'a file without an extension'} is",
            file=path,
            fix=f"tables are read from {', '.join(READERS)}",
        )
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", file=path) from None

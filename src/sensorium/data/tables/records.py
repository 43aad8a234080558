"""Rows of a table as records (mappings of column to cell), and the bytes of their media cells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from sensorium.core.modality import Blob, is_blank
from sensorium.core.schema import Record
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.tables.conversations import holds_turns
from sensorium.data.tables.table import Table


def records(rows: Any) -> Iterable[Record]:
    """Return ``rows`` as records: an iterable of records unchanged, or those of a frame, table, columns or file, or of a
    list of conversations."""
    listed = isinstance(rows, (list, tuple)) and any(isinstance(row, Mapping) and holds_turns(row) for row in rows[:1])
    if (
        listed
        or isinstance(rows, (str, os.PathLike, Table, Mapping))
        or hasattr(rows, "columns")
        or hasattr(rows, "column_names")
    ):
        return Table.read(rows).rows()
    result: Iterable[Record] = rows
    return result


class Records(Sequence[Record]):
    """A sequence of the rows of a table as records, built on access.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self.table.row(i) for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.table.row(index)


def media_opener(table: Table) -> Callable[[Record, str], bytes | None]:
    """Return a function of row and column that returns the bytes of a media cell of ``table``, or None."""
    opener = LocalFiles(table.root or Path.cwd(), anywhere=True)

    def media(row: Record, column: str) -> bytes | None:
        cell = row.get(column)
        content = None if is_blank(cell) else opener.open(cell, column=column)
        return content.data if isinstance(content, Blob) else None

    return media

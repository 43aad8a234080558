"""References to media in shards, so that a table of them stays small."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensorium.core.errors import CellError
from sensorium.data.plain_media import recognisable

GROUPS = 8
"""Row groups cached; cells are mostly read in file order."""


class Packed(ABC):
    """A reference to a media cell in a shard. ``name`` is its file name before packing."""

    name: str
    shard: str

    @abstractmethod
    def read(self, limit: int) -> bytes:
        """Return the content, or at least ``limit`` + 1 bytes of a larger one. Raises ``CellError``."""

    def _read_error(self, why: str) -> CellError:
        return CellError(f"cannot be read from its shard: {why}", file=f"{self.shard}: {self.name}", fix="pack it again")


@dataclass(frozen=True, slots=True)
class InTar(Packed):
    """A reference to a member of a tar file, by offset.

    Args:
        name: Its file name before packing.
        shard: Path of the tar file.
        offset: Byte offset of the content.
        size: Its size in bytes.
    """

    name: str
    shard: str
    offset: int
    size: int

    def read(self, limit: int) -> bytes:
        try:
            with open(self.shard, "rb") as file:
                file.seek(self.offset)
                data = file.read(min(self.size, limit + 1))
        except OSError as error:
            raise self._read_error(error.strerror or str(error)) from None
        if len(data) < min(self.size, limit + 1):
            raise self._read_error("the file is shorter than it was")
        return data


@dataclass(frozen=True, slots=True)
class InParquet(Packed):
    """A reference to a value of a Parquet column: bytes, or a struct of bytes and a path.

    Args:
        name: Its file name before packing.
        shard: Path of the Parquet file.
        column: The column.
        group: The row group.
        row: The row in the group.
        part: The position in a cell of several files; None for a single file.
    """

    name: str
    shard: str
    column: str
    group: int
    row: int
    part: int | None = None

    def read(self, limit: int) -> bytes:
        try:
            value = _groups.column(self.shard, self.group, self.column)[self.row].as_py()
        except (OSError, ValueError, IndexError) as error:  # pyarrow's errors are kinds of these
            raise self._read_error(str(error)) from None
        if self.part is not None:
            value = value[self.part]
        content = value["bytes"] if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise self._read_error("the cell is empty")
        return content


class _Groups:
    """A cache of the columns of recent row groups, shared by the decoding threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: OrderedDict[tuple[str, int, str], Any] = OrderedDict()

    def column(self, shard: str, group: int, name: str) -> Any:
        key = (shard, group, name)
        with self._lock:
            if key not in self._columns:
                from pyarrow import parquet

                with open(shard, "rb") as file:
                    self._columns[key] = parquet.ParquetFile(file).read_row_group(group, columns=[name]).column(name)
                while len(self._columns) > GROUPS:
                    self._columns.popitem(last=False)
            self._columns.move_to_end(key)
            return self._columns[key]


_groups = _Groups()


def original_name(cell: Any) -> Any:
    """Return a packed ``cell`` as its original file name; any other in the form that type inference recognises."""
    if isinstance(cell, Packed):
        return cell.name
    if isinstance(cell, list) and cell and isinstance(cell[0], Packed):
        return [part.name for part in cell]
    return recognisable(cell)


def plain_path(path: Path | str) -> str:
    """Return ``path`` in absolute form, so that references survive a change of the working folder."""
    return str(Path(path).absolute())

"""Arrays on the store that are no cells: what was computed from rows, by any digest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sensorium.core.modality import Array
from sensorium.data.store.store import Shelf


class Arrays(Shelf):
    """A shelf of float32 arrays ``[n, width]``, looked up and written by the caller."""

    def __init__(self, folder: Path, width: int) -> None:
        super().__init__(folder, _Shape(width))

    def find(self, keys: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
        """Offset and length of those arrays that are there, by digest."""
        try:
            return self._known(self._db(), list(keys))
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def keep(self, arrays: Mapping[bytes, Array]) -> dict[bytes, tuple[int, int]]:
        """Write arrays, all or none; where they lie, by digest."""
        try:
            return self._append([(key, array, None) for key, array in arrays.items()])
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    @property
    def bytes(self) -> int:
        """What its arrays take on disk."""
        return (self.folder / "values.bin").stat().st_size


class _Shape:
    ragged: ClassVar[bool] = True

    def __init__(self, width: int) -> None:
        self.width = width

    def blank(self) -> Array:
        return np.zeros((0, self.width), np.float32)

    def encode(self, cell: Any) -> Array:
        raise TypeError("these arrays are made elsewhere")

"""A cache of computed float32 arrays, such as encoder outputs, keyed by any digest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sensorium.core.modality import Array
from sensorium.data.store.store import ArrayCache


class ComputedArrayCache(ArrayCache):
    """A cache of float32 arrays ``[n, width]`` that its caller computes, looks up and writes.

    Args:
        folder: Where its files are; made if need be.
        width: The last dimension of every array.
    """

    def __init__(self, folder: Path, width: int) -> None:
        super().__init__(folder, _Shape(width))

    def find(self, keys: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return offset and length, by digest, of those of ``keys`` that are cached."""
        try:
            return self._known(self._db(), list(keys))
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def keep(self, arrays: Mapping[bytes, Array]) -> dict[bytes, tuple[int, int]]:
        """Write ``arrays`` (by digest) in one transaction; return their offset and length, by digest."""
        try:
            return self._append([(key, array, None) for key, array in arrays.items()])
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    @property
    def bytes(self) -> int:
        """Size of the array file on disk, in bytes."""
        return (self.folder / "values.bin").stat().st_size


class _Shape:
    ragged: ClassVar[bool] = True

    def __init__(self, width: int) -> None:
        self.width = width

    def blank(self) -> Array:
        return np.zeros((0, self.width), np.float32)

    def encode(self, cell: Any) -> Array:
        raise TypeError("these arrays are computed by the caller, not encoded from cells")

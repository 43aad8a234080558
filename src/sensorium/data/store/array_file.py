"""Arrays one after the other in a file: written many at a time, read by their places."""

from __future__ import annotations

import io
import mmap
import os
import weakref
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.core.modality import Array
from sensorium.core.padding import padded

WRITE_BYTES = 1 << 20
MAPPED_BYTES = 64 << 20
"""Up to this size a file is mapped into memory; of a larger one the arrays are read, so that memory stays bounded."""


def append(file: io.FileIO, arrays: Sequence[Array]) -> None:
    """Arrays one after the other, many in a call: a call for each costs more than its bytes where they are small."""
    block: list[Any] = []
    size = 0
    for array in arrays:
        block.append(array.data if array.size else b"")
        size += array.nbytes
        if size > WRITE_BYTES:
            _whole(file, b"".join(block))
            block, size = [], 0
    _whole(file, b"".join(block))


def _whole(file: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]


class Values:
    """Reads arrays of one type, and of one shape but for their number of steps, from where they lie in a file.

    Places are byte offsets; -1 is a row without one, which stays zero. Raises ``OSError`` where the file is too short.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], tail: tuple[int, ...]) -> None:
        self.path, self.dtype, self.tail = path, dtype, tail
        self.items = int(np.prod(tail, dtype=np.int64))
        self.unit = self.items * dtype.itemsize
        """Bytes of an array, or of a step of it."""
        self._map: mmap.mmap | None = None
        self._flat: Array | None = None
        self._handle: int | None = None

    def fixed(self, offset: NDArray[np.int64], present: NDArray[np.bool_]) -> Array:
        """Arrays of one shape, ``[B, ...]``."""
        whole = bool(present.all()) and len(offset) > 0
        data = (np.empty if whole else np.zeros)((len(offset), *self.tail), self.dtype)
        if not whole and not present.any():
            return data
        flat = self._mapped(int(offset.max()) + self.unit)
        if flat is None:
            self._read(*self._runs(data, offset))
            return data
        rows = flat[: len(flat) // self.items * self.items].reshape(-1, *self.tail)
        if whole:
            # Clipping changes nothing, since every place is one of the file's, and spares numpy a copy of its own.
            np.take(rows, offset // self.unit, axis=0, out=data, mode="clip")
        else:
            data[present] = rows[offset[present] // self.unit]
        return data

    def ragged(self, offset: NDArray[np.int64], length: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
        """Arrays of ``length`` steps, ``[B, N, ...]``, zero behind their ends, and which steps are real, ``[B, N]``."""
        data, mask = padded(length, self.tail, self.dtype)
        there = np.flatnonzero((offset >= 0) & (length > 0)).tolist()
        if not there:
            return data, mask
        flat = self._mapped(int((offset + length * self.unit).max()))
        if flat is None:
            self._read([data[i, : length[i]] for i in there], offset[there].tolist())
            return data, mask
        size = self.dtype.itemsize
        for i in there:
            start, n = int(offset[i]) // size, int(length[i])
            data[i, :n] = flat[start : start + n * self.items].reshape(n, *self.tail)
        return data, mask

    def raw(self, offset: int, size: int) -> memoryview | None:
        """The bytes at a place; None where the file ends before they do."""
        if offset + size > self.path.stat().st_size:
            return None
        flat = self._mapped(offset + size) if size else None
        if flat is not None:
            return flat.view(np.uint8)[offset : offset + size].data
        if size == 0:
            return memoryview(b"")
        assert self._handle is not None, "a large file is open"
        data = np.empty(size, np.uint8)
        self._read([data], [offset])
        return data.data

    def _mapped(self, upto: int) -> Array | None:
        """The file as mapped memory, at least ``upto`` bytes of it; None where it is large: pages that are mapped and
        given back cost more than a copy."""
        if self._flat is not None and self._flat.nbytes >= upto:
            return self._flat
        if self._large():
            return None
        with open(self.path, "rb") as file:
            found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(found) < upto:
            raise OSError(f"{self.path.name} is shorter than its index says")
        # Several threads may come here at once: each keeps what it mapped itself.
        self._map, self._flat = found, np.frombuffer(found, self.dtype, len(found) // self.dtype.itemsize)
        return self._flat

    def _large(self) -> bool:
        if self._handle is None:
            if not hasattr(os, "preadv") or self.path.stat().st_size <= MAPPED_BYTES:
                return False
            self._handle = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._handle)
        return True

    def _read(self, into: Iterable[Array], offsets: Iterable[int]) -> None:
        """Fill arrays, each of which lies in one piece, from their places."""
        assert self._handle is not None, "a large file is open"
        for array, offset in zip(into, offsets, strict=True):
            if offset >= 0 and os.preadv(self._handle, (array.data,), offset) != array.nbytes:
                raise OSError(f"{self.path.name} is shorter than its index says")

    def _runs(self, data: Array, offset: NDArray[np.int64]) -> tuple[Iterable[Array], list[int]]:
        """The rows of a batch and their places; those that lie one after the other are one."""
        turns = np.flatnonzero(np.diff(offset) != self.unit) + 1
        if 2 * len(turns) > len(offset):
            return data.reshape(len(data), -1), offset.tolist()
        starts = [0, *turns.tolist(), len(offset)]
        return [data[start:stop] for start, stop in pairwise(starts)], offset[starts[:-1]].tolist()

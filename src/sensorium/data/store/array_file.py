"""A binary file of arrays written end to end: batched appends, and reads by byte offset."""

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
"""Files up to this size are memory-mapped; larger ones are read with ``preadv``, so that memory stays bounded."""


def append(file: io.FileIO, arrays: Sequence[Array]) -> None:
    """Append ``arrays`` to an unbuffered ``file``, joined into writes of about ``WRITE_BYTES``.

    A write for each of many small arrays would cost more than their bytes.
    """
    block: list[Any] = []
    size = 0
    for array in arrays:
        block.append(array.data if array.size else b"")
        size += array.nbytes
        if size > WRITE_BYTES:
            _write_all(file, b"".join(block))
            block, size = [], 0
    _write_all(file, b"".join(block))


def _write_all(file: io.FileIO, data: bytes) -> None:
    """Write every byte: a raw file may accept only part of a call."""
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]


class ArrayReader:
    """Reads arrays of one dtype and trailing shape from a file by byte offset.

    Offset -1 stands for a row without an array; it is filled with zeros. Raises ``OSError`` where the file is too short.

    Args:
        path: The file of arrays.
        dtype: Their type.
        tail: The shape of an array, or of one step of it where the number of steps varies.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], tail: tuple[int, ...]) -> None:
        self.path, self.dtype, self.tail = path, dtype, tail
        self.items = int(np.prod(tail, dtype=np.int64))
        self.unit = self.items * dtype.itemsize
        """Bytes of one array, or of one step where the number of steps varies."""
        self._map: mmap.mmap | None = None
        self._flat: Array | None = None
        self._handle: int | None = None

    def fixed(self, offset: NDArray[np.int64], present: NDArray[np.bool_]) -> Array:
        """Read arrays of one shape, ``[B, ...]``, at byte ``offset`` ``[B]``; zero where not ``present`` ``[B]``."""
        complete = bool(present.all()) and len(offset) > 0
        data = (np.empty if complete else np.zeros)((len(offset), *self.tail), self.dtype)
        if not complete and not present.any():
            return data
        flat = self._mapped(int(offset.max()) + self.unit)
        if flat is None:
            self._read(*self._runs(data, offset))
            return data
        rows = flat[: len(flat) // self.items * self.items].reshape(-1, *self.tail)
        if complete:
            # Every offset lies within the file, so mode="clip" changes nothing; it spares numpy an internal copy.
            np.take(rows, offset // self.unit, axis=0, out=data, mode="clip")
        else:
            data[present] = rows[offset[present] // self.unit]
        return data

    def ragged(self, offset: NDArray[np.int64], length: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
        """Read arrays of ``length`` ``[B]`` steps at byte ``offset`` ``[B]``.

        Returns:
            The zero-padded arrays ``[B, N, ...]`` and the mask of real steps ``[B, N]``.
        """
        data, mask = padded(length, self.tail, self.dtype)
        filled = np.flatnonzero((offset >= 0) & (length > 0)).tolist()
        if not filled:
            return data, mask
        flat = self._mapped(int((offset + length * self.unit).max()))
        if flat is None:
            self._read([data[i, : length[i]] for i in filled], offset[filled].tolist())
            return data, mask
        size = self.dtype.itemsize
        for i in filled:
            start, n = int(offset[i]) // size, int(length[i])
            data[i, :n] = flat[start : start + n * self.items].reshape(n, *self.tail)
        return data, mask

    def raw(self, offset: int, size: int) -> memoryview | None:
        """Return the ``size`` bytes at byte ``offset``; None where the file ends before them."""
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
        """Map the file, at least its first ``upto`` bytes; None where it is large.

        For large files, faulting in and releasing mapped pages costs more than a copy.
        """
        if self._flat is not None and self._flat.nbytes >= upto:
            return self._flat
        if self._large():
            return None
        with open(self.path, "rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(mapping) < upto:
            raise OSError(f"{self.path.name} is shorter than its index says")
        # Several threads may map the file at once; each keeps its own mapping alive.
        self._map, self._flat = mapping, np.frombuffer(mapping, self.dtype, len(mapping) // self.dtype.itemsize)
        return self._flat

    def _large(self) -> bool:
        if self._handle is None:
            if not hasattr(os, "preadv") or self.path.stat().st_size <= MAPPED_BYTES:
                return False
            self._handle = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._handle)
        return True

    def _read(self, into: Iterable[Array], offsets: Iterable[int]) -> None:
        """Fill contiguous arrays from their byte offsets; those with a negative offset are left as they are."""
        assert self._handle is not None, "a large file is open"
        for array, offset in zip(into, offsets, strict=True):
            if offset >= 0 and os.preadv(self._handle, (array.data,), offset) != array.nbytes:
                raise OSError(f"{self.path.name} is shorter than its index says")

    def _runs(self, data: Array, offset: NDArray[np.int64]) -> tuple[Iterable[Array], list[int]]:
        """Split a batch into contiguous runs of the file, so that adjacent rows take one read."""
        breaks = np.flatnonzero(np.diff(offset) != self.unit) + 1
        if 2 * len(breaks) > len(offset):
            return data.reshape(len(data), -1), offset.tolist()
        starts = [0, *breaks.tolist(), len(offset)]
        return [data[start:stop] for start, stop in pairwise(starts)], offset[starts[:-1]].tolist()

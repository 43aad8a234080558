"""Rows that arrive in chunks, gathered in memory that is allocated once.

Small arrays kept between large temporary ones pin the heap: the gaps that the temporary ones leave are too small for the
next, so that memory grows by the size of the temporary arrays, however little is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LARGE = 1 << 22
"""Elements that a growing array starts with: large enough that it lies outside the heap of small arrays."""


class DenseRows:
    """Arrays of the same width, concatenated.

    Args:
        rows: Maximum number of rows.
    """

    def __init__(self, rows: int) -> None:
        self.rows, self.filled = rows, 0
        self._values: NDArray[Any] | None = None

    def add(self, values: NDArray[Any]) -> None:
        """Append ``values`` ``[n, ...]``."""
        if self._values is None:
            self._values = np.empty((self.rows, *values.shape[1:]), values.dtype)
        self._values[self.filled : self.filled + len(values)] = values
        self.filled += len(values)

    @property
    def array(self) -> NDArray[Any]:
        """All rows ``[rows, ...]``."""
        assert self._values is not None, "there are no rows"
        return self._values[: self.filled]


class SparseRows:
    """Sparse tensors, concatenated into one CSR matrix.

    Args:
        rows: Maximum number of rows.
    """

    def __init__(self, rows: int) -> None:
        self._counts = DenseRows(rows)
        self._columns = _Growing(np.dtype(np.int32))
        self._values = _Growing(np.dtype(np.float32))
        self._width = 0

    def add(self, values: Tensor) -> None:
        """Append the stored ``values`` of a coalesced sparse tensor ``[n, F]``."""
        row, column = values.indices().numpy()
        self._width = values.shape[1]
        self._counts.add(np.bincount(row, minlength=len(values)))
        self._columns.add(column)
        self._values.add(values.values().numpy())

    @property
    def matrix(self) -> Any:
        """All rows as a CSR matrix ``[rows, F]``."""
        from scipy.sparse import csr_matrix

        ends = np.concatenate([[0], np.cumsum(self._counts.array)])
        # SciPy takes indices of one type.
        kind = np.int32 if ends[-1] <= np.iinfo(np.int32).max else np.int64
        columns = self._columns.array.astype(kind, copy=False)
        return csr_matrix((self._values.array, columns, ends.astype(kind)), shape=(len(ends) - 1, self._width))


class _Growing:
    """A flat array of unknown length, which doubles when it is full."""

    def __init__(self, kind: np.dtype[Any]) -> None:
        self._values, self._filled = np.empty(LARGE, kind), 0

    def add(self, values: NDArray[Any]) -> None:
        end = self._filled + len(values)
        if end > len(self._values):
            grown = np.empty(max(end, 2 * len(self._values)), self._values.dtype)
            grown[: self._filled] = self._values[: self._filled]
            self._values = grown
        self._values[self._filled : end] = values
        self._filled = end

    @property
    def array(self) -> NDArray[Any]:
        return self._values[: self._filled]

"""Storage of the values of one column or stream: dense or ragged in memory, or in the on-disk cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import CellError
from sensorium.core.modality import Array, Modality
from sensorium.core.padding import padded
from sensorium.data.store.store import ArrayCache, Places

if TYPE_CHECKING:
    from sensorium.core.batch import Field

Index = NDArray[np.int64]


class Source(Protocol):
    """The values of one stream or target, by row."""

    def gather(self, index: Index) -> Field:
        """Return the values of the rows ``index`` ``[B]`` as a padded field."""

    def lengths(self) -> Index | None:
        """Return the length of each row before padding, 0 where missing; None where all have one shape."""
        ...

    def content(self) -> str:
        """Return a digest of all values, independent of where they are stored."""
        ...


@dataclass(frozen=True)
class Block(Source):
    """Values of one shape in memory.

    Args:
        data: ``[rows, ...]``.
        present: Which rows have a value, ``[rows]``.
        mask: Which cells are real, ``[rows, cells]``; None where all are.
    """

    data: Array
    present: NDArray[np.bool_]
    mask: NDArray[np.bool_] | None = None

    def gather(self, index: Index) -> Field:
        mask = None if self.mask is None else self.mask[index]
        return field_of(self.data[index], self.present[index], mask)

    def lengths(self) -> Index | None:
        return None

    def content(self) -> str:
        return _digest(self.data, self.present, *([] if self.mask is None else [self.mask]))


@dataclass(frozen=True)
class Ragged(Source):
    """Values of different lengths in memory, end to end; row i is ``values[start[i]:start[i + 1]]``.

    Args:
        values: All steps.
        start: First step of each row, and the end, ``[rows + 1]``.
        present: Which rows have a value, ``[rows]``.
    """

    values: Array
    start: Index
    present: NDArray[np.bool_]

    def gather(self, index: Index) -> Field:
        first = self.start[index]
        length = self.start[index + 1] - first
        data, mask = padded(length, self.values.shape[1:], self.values.dtype)
        data[mask] = self.values[(first[:, None] + np.arange(mask.shape[1]))[mask]]
        return field_of(data, self.present[index], mask)

    def lengths(self) -> Index | None:
        return np.where(self.present, np.diff(self.start), 0)

    def content(self) -> str:
        return _digest(self.values, self.start, self.present)


@dataclass(frozen=True)
class Cached(Source):
    """Values in the on-disk cache.

    Args:
        cache: The cache.
        places: Place of each row's array in it.
    """

    cache: ArrayCache
    places: Places

    def gather(self, index: Index) -> Field:
        return field_of(*self.cache.gather(self.places, index))

    def lengths(self) -> Index | None:
        return self.places.length if self.cache.modality.ragged else None

    def content(self) -> str:
        return self.places.content


def _digest(*parts: Array | str) -> str:
    h = hashlib.sha256()
    for part in parts:
        h.update(part.encode() if isinstance(part, str) else f"{part.dtype}{part.shape}".encode())
        if not isinstance(part, str):
            h.update(np.ascontiguousarray(part).tobytes())
    return h.hexdigest()[:16]


def field_of(data: Array, present: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> Field:
    """Return numpy arrays ``data``, ``present`` and ``mask`` (or None) as a field, without a copy."""
    import torch

    from sensorium.core.batch import Field

    return Field(torch.from_numpy(data), torch.from_numpy(present), None if mask is None else torch.from_numpy(mask))


@dataclass(frozen=True)
class WithExtents(Source):
    """Values with the physical extent of each, for inputs that targets refer to by position, and for such targets.

    Args:
        source: The values.
        modality: Interprets the extents.
        extents: The extent of each row's original, such as its size in pixels.
    """

    source: Source
    modality: Modality
    extents: Source

    def gather(self, index: Index) -> Field:
        from sensorium.core.collation import with_frames

        extents = self.extents.gather(index)
        extent_of_row = [
            row if present else None for row, present in zip(extents.data.numpy(), extents.present.tolist(), strict=True)
        ]
        return with_frames(self.source.gather(index), self.modality, extent_of_row)

    def lengths(self) -> Index | None:
        return self.source.lengths()

    def content(self) -> str:
        return self.source.content()


@dataclass(frozen=True)
class Hidden(Source):
    """Another source with some rows made missing.

    Args:
        source: The other source.
        keep: Which rows stay as they are, ``[rows]``.
    """

    source: Source
    keep: NDArray[np.bool_]

    def gather(self, index: Index) -> Field:
        import torch

        return self.source.gather(index).hide(torch.from_numpy(self.keep[index]))

    def lengths(self) -> Index | None:
        return self.source.lengths()

    def content(self) -> str:
        return _digest(self.source.content(), self.keep)


@dataclass(frozen=True)
class Subset(Source):
    """Selected rows of another source, in their own order.

    Args:
        source: The other source.
        rows: Its row numbers.
    """

    source: Source
    rows: Index

    def gather(self, index: Index) -> Field:
        return self.source.gather(self.rows[index])

    def lengths(self) -> Index | None:
        lengths = self.source.lengths()
        return None if lengths is None else lengths[self.rows]

    def content(self) -> str:
        return _digest(self.source.content(), self.rows)


@dataclass(frozen=True)
class Concatenated(Source):
    """The rows of one source followed by those of another.

    Args:
        first: The first source.
        count: Its number of rows.
        second: The second source.
    """

    first: Source
    count: int
    second: Source

    def gather(self, index: Index) -> Field:
        import torch

        from sensorium.core.batch import joined

        in_first = index < self.count
        if in_first.all():
            return self.first.gather(index)
        if not in_first.any():
            return self.second.gather(index - self.count)
        gathered: Field = joined([self.first.gather(index[in_first]), self.second.gather(index[~in_first] - self.count)])
        order = torch.from_numpy(np.argsort(np.r_[np.flatnonzero(in_first), np.flatnonzero(~in_first)]))
        return gathered.map(lambda tensor: tensor[order])

    def lengths(self) -> Index | None:
        lengths = self.first.lengths(), self.second.lengths()
        return None if lengths[0] is None or lengths[1] is None else np.concatenate([lengths[0], lengths[1]])

    def content(self) -> str:
        return _digest(self.first.content(), self.second.content())


@dataclass(frozen=True)
class AsTarget:
    """Encodes cells as targets, through ``encode_target`` of a modality.

    Args:
        modality: The modality.
    """

    modality: Modality

    @property
    def ragged(self) -> bool:
        """Whether arrays differ in length."""
        return self.modality.ragged

    def blank(self) -> Array:
        """Return the array of a missing cell."""
        return self.modality.blank()

    def encode(self, cell: Any) -> Array:
        """Return the array of ``cell`` as a target."""
        return self.modality.encode_target(cell)


@dataclass(frozen=True)
class Extents:
    """Encodes the physical extent of cells, not their content.

    Args:
        modality: Reads the extents.
    """

    modality: Modality
    ragged: ClassVar[bool] = True  # one number per axis

    def blank(self) -> Array:
        """Return the array of a missing cell."""
        return np.zeros(0, np.float32)

    def encode(self, cell: Any) -> Array:
        """Return the extent of ``cell`` along each axis. Raises ``CellError`` where it cannot be read."""
        extent = self.modality.extent(cell)
        if extent is None:
            raise CellError("its size cannot be read")
        return np.asarray(extent, np.float32)

"""Where the values of one column or stream lie: in memory, of one shape or of many, or on the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import CellError
from sensorium.core.modality import Array, Modality
from sensorium.core.padding import padded
from sensorium.data.store.store import Places, Shelf

if TYPE_CHECKING:
    from sensorium.core.batch import Field

Index = NDArray[np.int64]


class Source(Protocol):
    """Where the values of one stream or target come from."""

    def gather(self, index: Index) -> Field: ...

    def lengths(self) -> Index | None:
        """How long each row is before it is padded, 0 where it is missing; None where all have one shape."""
        ...

    def content(self) -> str:
        """A digest of all values, wherever they lie: another one where any cell is another."""
        ...


@dataclass(frozen=True)
class Block:
    """Values of one shape, in memory: data ``[rows, ...]``, present ``[rows]``, mask ``[rows, cells]`` or None."""

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
class Ragged:
    """Values of different lengths, in memory, end to end; row i is ``values[start[i]:start[i + 1]]``."""

    values: Array
    start: Index
    present: NDArray[np.bool_]

    def gather(self, index: Index) -> Field:
        begin = self.start[index]
        length = self.start[index + 1] - begin
        data, mask = padded(length, self.values.shape[1:], self.values.dtype)
        data[mask] = self.values[(begin[:, None] + np.arange(mask.shape[1]))[mask]]
        return field_of(data, self.present[index], mask)

    def lengths(self) -> Index | None:
        return np.where(self.present, np.diff(self.start), 0)

    def content(self) -> str:
        return _digest(self.values, self.start, self.present)


@dataclass(frozen=True)
class Stored:
    """Values on the store."""

    shelf: Shelf
    places: Places

    def gather(self, index: Index) -> Field:
        return field_of(*self.shelf.gather(self.places, index))

    def lengths(self) -> Index | None:
        return self.places.length if self.shelf.modality.ragged else None

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
    """Numpy arrays as a field, without a copy."""
    import torch

    from sensorium.core.batch import Field

    return Field(torch.from_numpy(data), torch.from_numpy(present), None if mask is None else torch.from_numpy(mask))


@dataclass(frozen=True)
class Measured:
    """Values of an input on which targets lie, or of such a target: each batch knows where places in the originals lie."""

    source: Source
    modality: Modality
    extents: Source

    def gather(self, index: Index) -> Field:

        from sensorium.core.collation import measured

        extents = self.extents.gather(index)
        known = [row if here else None for row, here in zip(extents.data.numpy(), extents.present.tolist(), strict=True)]
        return measured(self.source.gather(index), self.modality, known)

    def lengths(self) -> Index | None:
        return self.source.lengths()

    def content(self) -> str:
        return self.source.content()


@dataclass(frozen=True)
class Taken:
    """Some rows of another source, in their own order."""

    source: Source
    rows: Index

    def gather(self, index: Index) -> Field:
        return self.source.gather(self.rows[index])

    def lengths(self) -> Index | None:
        every = self.source.lengths()
        return None if every is None else every[self.rows]

    def content(self) -> str:
        return _digest(self.source.content(), self.rows)


@dataclass(frozen=True)
class EndToEnd:
    """The ``count`` rows of one source, and behind them those of another."""

    first: Source
    count: int
    second: Source

    def gather(self, index: Index) -> Field:
        import torch

        from sensorium.core.batch import joined

        early = index < self.count
        if early.all():
            return self.first.gather(index)
        if not early.any():
            return self.second.gather(index - self.count)
        together: Field = joined([self.first.gather(index[early]), self.second.gather(index[~early] - self.count)])
        order = torch.from_numpy(np.argsort(np.r_[np.flatnonzero(early), np.flatnonzero(~early)]))
        return together.map(lambda tensor: tensor[order])

    def lengths(self) -> Index | None:
        each = self.first.lengths(), self.second.lengths()
        return None if each[0] is None or each[1] is None else np.concatenate([each[0], each[1]])

    def content(self) -> str:
        return _digest(self.first.content(), self.second.content())


@dataclass(frozen=True)
class AsTarget:
    """Reads cells as what is to be answered."""

    modality: Modality

    @property
    def ragged(self) -> bool:
        return self.modality.ragged

    def blank(self) -> Array:
        return self.modality.blank()

    def encode(self, cell: Any) -> Array:
        return self.modality.encode_target(cell)


@dataclass(frozen=True)
class Extents:
    """Reads how large cells are, not what is in them."""

    modality: Modality
    ragged: ClassVar[bool] = True  # of as many numbers as there are axes

    def blank(self) -> Array:
        return np.zeros(0, np.float32)

    def encode(self, cell: Any) -> Array:
        found = self.modality.extent(cell)
        if found is None:
            raise CellError("its size cannot be read")
        return np.asarray(found, np.float32)

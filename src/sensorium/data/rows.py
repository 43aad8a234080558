"""A table as the model reads it: media on the store, the rest in memory, a batch by one gather a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import CellError
from sensorium.core.modality import Array, Modality, is_blank
from sensorium.core.schema import Column, Opener, Problem, Schema, content
from sensorium.data.store import Places, Shelf, Store

if TYPE_CHECKING:
    from sensorium.core.batch import Batch, Field
    from sensorium.data.table import Table

Index = NDArray[np.int64]
Number = Callable[[int], int]
Tell = Callable[[str, int, int], None]
"""Progress: what is being done, how many are done, of how many."""


class Source(Protocol):
    """Where the values of one stream or target come from."""

    def gather(self, index: Index) -> Field: ...

    def lengths(self) -> Index | None:
        """How long each row is before it is padded, 0 where it is missing; None where all have one shape."""
        ...


@dataclass(frozen=True)
class Block:
    """Values of one shape, in memory: data ``[rows, ...]``, present ``[rows]``, mask ``[rows, cells]`` or None."""

    data: Array
    present: NDArray[np.bool_]
    mask: NDArray[np.bool_] | None = None

    def gather(self, index: Index) -> Field:
        mask = None if self.mask is None else self.mask[index]
        return _field(self.data[index], self.present[index], mask)

    def lengths(self) -> Index | None:
        return None


@dataclass(frozen=True)
class Ragged:
    """Values of different lengths, in memory, end to end; row i is ``values[start[i]:start[i + 1]]``."""

    values: Array
    start: Index
    present: NDArray[np.bool_]

    def gather(self, index: Index) -> Field:
        begin = self.start[index]
        length = self.start[index + 1] - begin
        longest = max(int(length.max(initial=0)), 1)
        step = np.arange(longest)
        mask = step < length[:, None]
        at = np.where(mask, begin[:, None] + step, 0)
        if len(self.values) == 0:
            return _field(
                np.zeros((len(index), longest, *self.values.shape[1:]), self.values.dtype), self.present[index], mask
            )
        data = self.values[at]
        data[~mask] = 0
        return _field(data, self.present[index], mask)

    def lengths(self) -> Index | None:
        return np.where(self.present, np.diff(self.start), 0)


@dataclass(frozen=True)
class Stored:
    """Values on the store."""

    shelf: Shelf
    places: Places

    def gather(self, index: Index) -> Field:
        return _field(*self.shelf.gather(self.places, index))

    def lengths(self) -> Index | None:
        return self.places.length if self.shelf.modality.ragged else None


def _field(data: Array, present: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> Field:
    import torch

    from sensorium.core.batch import Field

    return Field(torch.from_numpy(data), torch.from_numpy(present), None if mask is None else torch.from_numpy(mask))


@dataclass(frozen=True)
class Rows:
    """Encoded rows. ``batch(index)`` gathers some of them; nothing is decoded again."""

    inputs: dict[str, Source]
    targets: dict[str, Source]
    weight: NDArray[np.float32]
    problems: list[Problem]

    def __len__(self) -> int:
        return len(self.weight)

    def batch(self, index: Index) -> Batch:
        """Rows ``index`` ``[B]`` as stored: call ``Schema.prepare`` before a model sees them."""
        import torch

        from sensorium.core.batch import Batch

        return Batch(
            {name: source.gather(index) for name, source in self.inputs.items()},
            {name: source.gather(index) for name, source in self.targets.items()},
            torch.from_numpy(self.weight[index]),
        )

    def lengths(self) -> dict[str, Index]:
        """How long each row is, by stream whose rows differ in length."""
        found = ((name, source.lengths()) for name, source in self.inputs.items())
        return {name: length for name, length in found if length is not None}

    def target(self, name: str) -> Field:
        """All values of a target."""
        return self.targets[name].gather(np.arange(len(self), dtype=np.int64))

    def take(self, index: Index) -> Rows:
        """The same rows, fewer or in another order; media stay where they are."""
        return Rows(
            {name: _Taken(source, index) for name, source in self.inputs.items()},
            {name: _Taken(source, index) for name, source in self.targets.items()},
            self.weight[index],
            self.problems,
        )


@dataclass(frozen=True)
class _Taken:
    source: Source
    rows: Index

    def gather(self, index: Index) -> Field:
        return self.source.gather(self.rows[index])

    def lengths(self) -> Index | None:
        every = self.source.lengths()
        return None if every is None else every[self.rows]


def encode(
    schema: Schema,
    table: Table,
    *,
    media: Opener,
    store: Store,
    workers: int = 2,
    targets: bool = True,
    tell: Tell | None = None,
) -> Rows:
    """Every row of a table, encoded. Cells that cannot be used become missing and are told in ``problems``.

    Columns the table lacks are missing in every row.
    """
    problems: list[Problem] = []
    count = len(table)

    def cells(column: Column) -> Sequence[Any]:
        return table.column(column.source) if table.has(column.source) else [None] * count

    inputs: dict[str, Source] = {}
    for stream, columns in schema.streams.items():
        first = columns[0].reader
        if first.stream is not None:
            inputs[stream] = _joined([_block(schema, c, cells(c), media, table.number, problems) for c in columns])
        elif first.media:
            inputs[stream] = _stored(columns[0], cells(columns[0]), media, table.number, store, workers, problems, tell)
        elif first.ragged:
            inputs[stream] = _ragged(schema, columns[0], cells(columns[0]), media, table.number, problems)
        else:
            inputs[stream] = _block(schema, columns[0], cells(columns[0]), media, table.number, problems)
    found: dict[str, Source] = {}
    if targets:
        found = {c.name: _block(schema, c, cells(c), media, table.number, problems) for c in schema.targets}
    return Rows(inputs, found, weights(schema, table), problems)


def weights(schema: Schema, table: Table) -> NDArray[np.float32]:
    """The weight of every row, 1 where no column says."""
    from sensorium.core.errors import DataError

    weight = np.ones(len(table), np.float32)
    for column in schema.columns.values():
        if column.role == "weight" and table.has(column.name):
            for i, cell in enumerate(table.column(column.name)):
                try:
                    weight[i] = 0.0 if is_blank(cell) else float(cell)
                except (TypeError, ValueError):
                    weight[i] = np.nan
                if not (np.isfinite(weight[i]) and weight[i] >= 0):
                    raise DataError(
                        f"{cell!r} is not a weight",
                        file=table.source,
                        row=table.number(i),
                        column=column.name,
                        fix="give a number ≥ 0",
                    )
    return weight


def _block(
    schema: Schema, column: Column, cells: Sequence[Any], media: Opener, number: Number, problems: list[Problem]
) -> Block:
    blank = column.reader.blank()
    data = np.empty((len(cells), *blank.shape), blank.dtype)
    present = np.zeros(len(cells), np.bool_)
    for i, cell in enumerate(cells):
        array = schema.encode_cell(column, cell, media=media, row=number(i), problems=problems)
        present[i] = array is not None
        data[i] = blank if array is None else array
    return Block(data, present, np.ones(data.shape, np.bool_) if column.reader.fills else None)


def _joined(blocks: list[Block]) -> Block:
    masks = [np.repeat(b.present[:, None], b.data.shape[1], axis=1) if b.mask is None else b.mask for b in blocks]
    mask = np.concatenate(masks, axis=1)
    present = np.asarray(np.stack([b.present for b in blocks]).any(axis=0))
    return Block(np.concatenate([b.data for b in blocks], axis=1), present, mask)


def _ragged(
    schema: Schema, column: Column, cells: Sequence[Any], media: Opener, number: Number, problems: list[Problem]
) -> Ragged:
    blank = column.reader.blank()
    arrays: list[Array] = []
    start, present = np.zeros(len(cells) + 1, np.int64), np.zeros(len(cells), np.bool_)
    for i, cell in enumerate(cells):
        array = schema.encode_cell(column, cell, media=media, row=number(i), problems=problems)
        present[i] = array is not None
        arrays.append(blank if array is None else array)
        start[i + 1] = start[i] + len(arrays[-1])
    return Ragged(np.concatenate(arrays) if arrays else blank, start, present)


def _stored(
    column: Column,
    cells: Sequence[Any],
    media: Opener,
    number: Number,
    store: Store,
    workers: int,
    problems: list[Problem],
    tell: Tell | None,
) -> Stored:
    modality: Modality = column.reader
    shelf = store.shelf(modality, column.spec["kind"])
    present = [i for i, cell in enumerate(cells) if not is_blank(cell)]
    done = 0

    def opened() -> Iterator[tuple[int, Callable[[], Any]]]:
        for i in present:
            yield i, partial(content, modality, cells[i], media, number(i), column.name)

    def one(count: int) -> None:
        nonlocal done
        done += count
        if tell is not None:
            tell(f"reading {column.name}", done, len(present))

    def problem(row: int, error: CellError) -> None:
        cell = cells[row]
        file = error.file if error.file is not None else (cell if isinstance(cell, str) else None)
        problems.append(Problem(number(row), column.name, None if file is None else str(file), error.problem))

    return Stored(shelf, shelf.fill(len(cells), opened(), workers=workers, tell=one, problem=problem))

"""Encoded tables: media in the on-disk cache, other columns in memory; a batch is one gather per stream."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorium.core.cell_content import Opener, content, named_file
from sensorium.core.errors import CellError
from sensorium.core.modality import Array, Modality, is_blank
from sensorium.core.problem import add_problem
from sensorium.core.schema import Column, Problem, Schema
from sensorium.data.column_storage import (
    AsTarget,
    Block,
    Cached,
    Concatenated,
    Extents,
    Hidden,
    Index,
    Ragged,
    Source,
    Subset,
    WithExtents,
    field_of,
)
from sensorium.data.store.store import Store

if TYPE_CHECKING:
    from sensorium.core.batch import Batch, Field
    from sensorium.core.goal import Goal
    from sensorium.data.tables.table import Table

FEW, GATHERED = 256, 1 << 20
"""Rows of targets read at once: cached or ragged ones, and dense ones in memory."""
Number = Callable[[int], int]
Progress = Callable[[str, int, int], None]
"""Receives what is being done, how many are done, and the total."""


def target_fields(schema: Schema, rows: Rows, task: TargetReader) -> Fields:
    """Return the targets of a task, a chunk of rows at a time.

    Args:
        schema: The schema.
        rows: The encoded rows.
        task: The task that reads them. Without target columns it reads the streams that it looks at.
    """
    return Fields(schema, rows, list(task.goal.targets), task.target, () if task.goal.targets else task.prepared_streams)


class TargetReader(Protocol):
    """The part of a task that this module needs."""

    @property
    def goal(self) -> Goal:
        """Its goal, which names its target columns."""

    def target(self, batch: Batch) -> Field | None:
        """Return the targets of ``batch`` as one field, or None."""

    @property
    def prepared_streams(self) -> Sequence[str]:
        """The streams whose prepared data it reads."""


class Fields:
    """An iterable over the values of target columns as a task reads them, in chunks; it may be iterated repeatedly.

    Args:
        schema: The schema.
        rows: The encoded rows.
        columns: The target columns.
        join: Joins the columns of a batch to one field, or returns None.
        streams: Streams to read in place of target columns.
    """

    def __init__(
        self,
        schema: Schema,
        rows: Rows,
        columns: Sequence[str],
        join: Callable[[Batch], Field | None],
        streams: Sequence[str] = (),
    ) -> None:
        self.schema, self.rows, self.columns, self.join, self.streams = schema, rows, columns, join, streams

    def __iter__(self) -> Iterator[Field]:
        import torch

        from sensorium.core.batch import Batch

        for start in range(0, len(self.rows) if self.streams else 0, FEW):
            index = np.arange(start, min(start + FEW, len(self.rows)), dtype=np.int64)
            joined = self.join(self.schema.prepare(self.rows.batch(index)))
            if joined is not None:
                yield joined
        step = GATHERED if all(isinstance(self.rows.targets[name], Block) for name in self.columns) else FEW
        for start in range(0, len(self.rows) if self.columns else 0, step):
            index = np.arange(start, min(start + step, len(self.rows)), dtype=np.int64)
            fields = {
                name: self.schema.columns[name].reader.prepare_target(self.rows.targets[name].gather(index))
                for name in self.columns
            }
            joined = self.join(Batch({}, fields, torch.from_numpy(self.rows.weight[index])))
            if joined is not None:
                yield joined


@dataclass(frozen=True)
class Rows:
    """Encoded rows. ``batch(index)`` gathers some of them without decoding again.

    Args:
        inputs: Values by stream.
        targets: Values by target column.
        weight: Row weights, ``[rows]``.
        problems: Cells that could not be used and count as missing.
        prompts: Values by prompt column.
    """

    inputs: dict[str, Source]
    targets: dict[str, Source]
    weight: NDArray[np.float32]
    problems: list[Problem]
    prompts: dict[str, Source] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.weight)

    def batch(self, index: Index) -> Batch:
        """Return the rows ``index`` ``[B]`` as stored; call ``Schema.prepare`` before passing them to a model."""
        import torch

        from sensorium.core.batch import Batch

        return Batch(
            {name: source.gather(index) for name, source in self.inputs.items()},
            {name: source.gather(index) for name, source in self.targets.items()},
            torch.from_numpy(self.weight[index]),
            {name: source.gather(index) for name, source in self.prompts.items()},
        )

    def lengths(self) -> dict[str, Index]:
        """Return the length of each row, by ragged stream."""
        lengths = ((name, source.lengths()) for name, source in self.inputs.items())
        return {name: length for name, length in lengths if length is not None}

    def known(self, name: str) -> NDArray[np.bool_]:
        """Return which rows have a value of target column ``name``, ``[rows]``."""
        index = np.arange(len(self), dtype=np.int64)
        parts = [self.targets[name].gather(chunk).present.numpy() for chunk in _chunked(index)]
        return np.concatenate(parts) if parts else np.zeros(0, np.bool_)

    def contents(self) -> dict[str, str]:
        """Return digests of all values, by stream and target, and of the weights."""
        inputs = {name: source.content() for name, source in self.inputs.items()}
        targets = {f"target {name}": source.content() for name, source in self.targets.items()}
        prompts = {f"prompt {name}": source.content() for name, source in self.prompts.items()}
        return {**inputs, **targets, **prompts, "weights": hashlib.sha256(self.weight.tobytes()).hexdigest()[:16]}

    def take(self, index: Index) -> Rows:
        """Return the rows ``index``, in that order, without copying cached media."""
        return Rows(
            {name: Subset(source, index) for name, source in self.inputs.items()},
            {name: Subset(source, index) for name, source in self.targets.items()},
            self.weight[index],
            self.problems,
            {name: Subset(source, index) for name, source in self.prompts.items()},
        )

    def concatenated(self, other: Rows) -> Rows:
        """Return these rows followed by those of ``other``, from another table with the same columns."""
        count = len(self)

        def both(mine: dict[str, Source], theirs: dict[str, Source]) -> dict[str, Source]:
            return {name: Concatenated(source, count, theirs[name]) for name, source in mine.items()}

        return Rows(
            both(self.inputs, other.inputs),
            both(self.targets, other.targets),
            np.concatenate([self.weight, other.weight]),
            self.problems + other.problems,
            both(self.prompts, other.prompts),
        )


def encode(
    schema: Schema,
    table: Table,
    *,
    media: Opener,
    store: Store,
    workers: int = 2,
    targets: bool = True,
    progress: Progress | None = None,
) -> Rows:
    """Encode every row of a table. Unusable cells become missing and are listed in ``problems``.

    Columns that the table lacks are missing in every row.

    Args:
        schema: Encodes the cells.
        table: The table.
        media: Opens media cells.
        store: Caches encoded media.
        workers: Decoding threads.
        targets: Whether to encode the targets.
        progress: Receives progress.
    """
    problems: list[Problem] = []
    count = len(table)
    # A column that is input and target is read twice, but its problems are reported once.
    repeated: list[Problem] = []

    def cells(column: Column) -> Sequence[Any]:
        return table.column(column.source) if table.has(column.source) else [None] * count

    def source(column: Column, *, target: bool = False, report: list[Problem] = problems, measure: bool = False) -> Source:
        """The values of one column: media in the cache, others in memory."""
        if column.reader.media:
            values: Source = _stored(column, cells(column), media, table.number, store, workers, report, progress, target)
        else:
            encoder = _ragged if column.reader.ragged else _block
            values = encoder(schema, column, cells(column), media, table.number, report, target)
        if not measure:
            return values
        return WithExtents(values, column.reader, _extents(column, cells(column), media, table.number, store, workers))

    inputs: dict[str, Source] = {}
    for stream, columns in schema.streams.items():
        if columns[0].reader.stream is not None:
            blocks = [_block(schema, c, cells(c), media, table.number, problems, False) for c in columns]
            inputs[stream] = _joined(blocks)
            continue
        inputs[stream] = source(columns[0], measure=columns[0].name in schema.bearing)
    answers: dict[str, Source] = {}
    if targets:
        answers = {
            c.name: source(
                c, target=True, report=repeated if c.role == "both" else problems, measure=c.name in schema.lying
            )
            for c in schema.targets
        }
    for column in schema.targets if targets else ():
        own, base = answers[column.name], inputs.get(column.on or "")
        if isinstance(own, WithExtents) and isinstance(base, WithExtents):
            answers[column.name] = _fitting(column, own, base, cells(column), table.number, problems)
    prompts = {c.name: source(c) for c in schema.prompts}
    return Rows(inputs, answers, weights(schema, table), problems, prompts)


def weights(schema: Schema, table: Table) -> NDArray[np.float32]:
    """Return the row weights of ``table``, 1 where ``schema`` has no weight column.

    Raises ``DataError`` for an invalid one.
    """
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


def _chunked(index: Index) -> Iterator[Index]:
    return (index[start : start + FEW] for start in range(0, len(index), FEW))


def _block(
    schema: Schema,
    column: Column,
    cells: Sequence[Any],
    media: Opener,
    number: Number,
    problems: list[Problem],
    target: bool,
) -> Block:
    blank = column.reader.blank()
    data = np.empty((len(cells), *blank.shape), blank.dtype)
    present = np.zeros(len(cells), np.bool_)
    for i, cell in enumerate(cells):
        array = schema.encode_cell(column, cell, media=media, row=number(i), problems=problems, target=target)
        present[i] = array is not None
        data[i] = blank if array is None else array
    return Block(data, present, np.ones(data.shape, np.bool_) if column.reader.fills else None)


def _joined(blocks: list[Block]) -> Block:
    from sensorium.core.batch import Field

    joined_field = Field.join([field_of(block.data, block.present, block.mask) for block in blocks])
    assert joined_field.mask is not None
    return Block(joined_field.data.numpy(), joined_field.present.numpy(), joined_field.mask.numpy())


def _ragged(
    schema: Schema,
    column: Column,
    cells: Sequence[Any],
    media: Opener,
    number: Number,
    problems: list[Problem],
    target: bool,
) -> Ragged:
    blank = column.reader.blank()
    arrays: list[Array] = []
    start, present = np.zeros(len(cells) + 1, np.int64), np.zeros(len(cells), np.bool_)
    for i, cell in enumerate(cells):
        array = schema.encode_cell(column, cell, media=media, row=number(i), problems=problems, target=target)
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
    progress: Progress | None,
    target: bool,
) -> Cached:
    modality: Modality = column.reader
    separate = target and type(modality).encode_target is not Modality.encode_target
    cache = store.cache(modality, column.spec["kind"], AsTarget(modality) if separate else None)
    opened = _opened(column, cells, media, number)
    done = 0

    def cells_done(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(f"reading {column.name}", done, len(opened))

    def problem(row: int, error: CellError) -> None:
        cell = cells[row]
        named = named_file(modality, cell) if isinstance(cell, str) else None
        file = error.file if error.file is not None else named
        add_problem(problems, number(row), column.name, file, error.problem, fix=error.fix)

    return Cached(cache, cache.fill(len(cells), iter(opened), workers=workers, progress=cells_done, problem=problem))


def _opened(column: Column, cells: Sequence[Any], media: Opener, number: Number) -> list[tuple[int, Callable[[], Any]]]:
    """The non-missing cells, by position, with a function that opens each."""
    return [
        (i, partial(content, column.reader, cell, media, number(i), column.name))
        for i, cell in enumerate(cells)
        if not is_blank(cell)
    ]


def _fitting(
    column: Column, own: WithExtents, base: WithExtents, cells: Sequence[Any], number: Number, problems: list[Problem]
) -> Source:
    """The targets without those that cannot lie on their input, which are reported."""
    index = np.arange(len(cells), dtype=np.int64)
    mine, theirs = own.extents.gather(index), base.extents.gather(index)
    keep = np.ones(len(cells), np.bool_)
    for i in (mine.present & theirs.present).nonzero()[:, 0].tolist():
        if why := column.reader.misfit(mine.data[i].numpy(), theirs.data[i].numpy()):
            keep[i] = False
            problems.append(Problem(number(i), column.name, cells[i] if isinstance(cells[i], str) else None, why))
        elif how := column.reader.adjusted(mine.data[i].numpy(), theirs.data[i].numpy()):
            problems.append(Problem(number(i), column.name, None, how, missing=False))
    return own if keep.all() else Hidden(own, keep)


def _extents(column: Column, cells: Sequence[Any], media: Opener, number: Number, store: Store, workers: int) -> Cached:
    """The physical extent of each cell; cells that cannot be opened were reported before."""
    cache = store.cache(column.reader, f"{column.spec['kind']}-extent", Extents(column.reader))
    opened = iter(_opened(column, cells, media, number))
    places = cache.fill(len(cells), opened, workers=workers, progress=lambda _: None, problem=lambda _row, _error: None)
    return Cached(cache, places)

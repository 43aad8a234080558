"""Streams of rows from shards, for data larger than memory, with a position that can be saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import ConfigError
from sensorium.core.schema import Schema
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.data.shards.shard_folder import Shard, shards

if TYPE_CHECKING:
    from sensorium.core.batch import Batch

Record = dict[str, Any]
Leave = Callable[[int, int, Record], bool]
"""Whether to skip a row, given its shard's number, its number in the shard, and its cells."""


class Stream:
    """The rows of a folder of shards with media loaded; each iteration is one epoch.

    Memory holds ``buffer`` rows. With a seed, shards are shuffled every epoch, and rows within blocks of ``buffer``. The
    order is a function of seed, epoch and position, so that a stream restored from ``state_dict`` continues row for row.
    Readers partition the rows: whole shards where there are enough, else every n-th row of each shard.

    Args:
        source: A folder of shards, or one shard.
        seed: Seed of the order; None keeps the stored order.
        buffer: Rows shuffled together and held in memory.
        reader: Number of this reader, counted from 0: rank × workers + worker.
        readers: Ranks × workers.
        leave: Selects rows to skip, such as those held out for validation.
    """

    def __init__(
        self,
        source: Path | str,
        *,
        seed: int | None = None,
        buffer: int = 1000,
        reader: int = 0,
        readers: int = 1,
        leave: Leave | None = None,
    ) -> None:
        if buffer < 1 or not 0 <= reader < readers:
            raise ConfigError(f"reader must be from 0 to {readers} - 1 and buffer at least 1, not {reader} and {buffer}")
        self.shards = shards(Path(source))
        self.seed, self.buffer, self.reader, self.readers, self.leave = seed, buffer, reader, readers, leave
        self.epoch = 0
        self._position = (0, 0, 0)
        """The current block's shard position in the epoch and first row, and the rows of it already yielded."""

    def __iter__(self) -> Iterator[Record]:
        order = self._order()
        at, offset, taken = self._position
        while True:
            block, at_next, offset_next = self._block(order, at, offset)
            if not block:
                break
            order_in_block = np.arange(len(block))
            if self.seed is not None:
                np.random.default_rng((self.seed, self.epoch, 1 + self.reader, at, offset)).shuffle(order_in_block)
            for i in order_in_block[taken:].tolist():
                taken += 1
                self._position = (at, offset, taken)
                yield block[i]
            at, offset, taken = at_next, offset_next, 0
            self._position = (at, offset, 0)
        self.epoch += 1
        self._position = (0, 0, 0)

    def batches(self, schema: Schema, size: int) -> Iterator[Batch]:
        """Yield an epoch of stored batches with targets; call ``schema.prepare`` before passing them to a model.

        Unusable cells, including those that name files on this machine, are missing.

        Args:
            schema: Encodes the rows.
            size: Rows per batch.
        """
        rows = iter(self)
        while chunk := list(islice(rows, size)):
            yield schema.collate([schema.encode(row, media=UPLOADS_ONLY, targets=True) for row in chunk])

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last row yielded, as plain data."""
        shard, offset, taken = self._position
        return {"epoch": self.epoch, "shard": shard, "offset": offset, "taken": taken, "of": self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a ``state`` that ``state_dict`` returned; shards, seed, buffer and readers must be the same."""
        if state["of"] != self._identity():
            raise ConfigError("the position is of another stream: its shards, seed, buffer or readers differ")
        self.epoch = int(state["epoch"])
        self._position = (int(state["shard"]), int(state["offset"]), int(state["taken"]))

    def _identity(self) -> dict[str, Any]:
        names = [shard.path.name for shard in self.shards]
        return {"shards": names, "seed": self.seed, "buffer": self.buffer, "reader": self.reader, "readers": self.readers}

    @property
    def _by_row(self) -> bool:
        return len(self.shards) < self.readers

    def _order(self) -> list[tuple[int, Shard]]:
        """Return this reader's shards with their numbers, in the order of the epoch."""
        order = np.arange(len(self.shards))
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch, 0)).shuffle(order)
        numbered = [(i, self.shards[i]) for i in order.tolist()]
        return numbered if self._by_row else numbered[self.reader :: self.readers]

    def _block(self, order: list[tuple[int, Shard]], at: int, offset: int) -> tuple[list[Record], int, int]:
        """Return the next ``buffer`` rows from a position, and the position after them."""
        block: list[Record] = []
        while at < len(order) and len(block) < self.buffer:
            number, shard = order[at]
            own = self._own_rows(shard.records(offset, load=True), offset)
            if self.leave is not None:
                own = ((i, row) for i, row in own if not self.leave(number, i, row))
            missing = self.buffer - len(block)
            rows = list(islice(own, missing))
            block += [record for _, record in rows]
            if len(rows) < missing:
                at, offset = at + 1, 0
            else:
                offset = rows[-1][0] + 1
        return block, at, offset

    def _own_rows(self, rows: Iterator[Record], offset: int) -> Iterator[tuple[int, Record]]:
        numbered = enumerate(rows, offset)
        if not self._by_row:
            return numbered
        return ((i, row) for i, row in numbered if i % self.readers == self.reader)

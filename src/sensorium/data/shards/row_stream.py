"""Rows out of shards, one after the other, for data larger than memory; the place reached can be kept and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import ConfigError
from sensorium.core.schema import Schema
from sensorium.data.files.media_access import NONE
from sensorium.data.shards.shard_folder import Shard, shards

if TYPE_CHECKING:
    from sensorium.core.batch import Batch

Record = dict[str, Any]
Leave = Callable[[int, int, Record], bool]
"""Whether a row is left out, by the number of its shard, its own in the shard, and its cells."""


class Stream:
    """The rows of a folder of shards, their media loaded, an epoch an iteration.

    Memory holds ``buffer`` rows. With a seed the shards come in a new order every epoch, and rows are shuffled within
    blocks of ``buffer``: a function of seed, epoch and place, so that a stream taken up from ``state_dict`` goes on row for
    row as it would have. Readers share the rows without loss and without doubles: whole shards where there are enough of
    them, else every n-th row of each.

    Args:
        source: A folder of shards, or one file.
        seed: Of the order; None: rows come as they lie.
        buffer: Rows that are shuffled together, and held.
        reader: Which of ``readers`` this is, counted from 0: rank × workers + worker.
        readers: Ranks × workers.
        leave: Rows that are left out, for validation perhaps.
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
            raise ConfigError(f"reader {reader} of {readers} with a buffer of {buffer} rows cannot read")
        self.shards = shards(Path(source))
        self.seed, self.buffer, self.reader, self.readers, self.leave = seed, buffer, reader, readers, leave
        self.epoch = 0
        self._place = (0, 0, 0)
        """Where the present block begins, as a shard's place in the epoch's order and a row of it; rows of it given."""

    def __iter__(self) -> Iterator[Record]:
        order = self._order()
        at, offset, taken = self._place
        while True:
            block, at_next, offset_next = self._block(order, at, offset)
            if not block:
                break
            turn = np.arange(len(block))
            if self.seed is not None:
                np.random.default_rng((self.seed, self.epoch, 1 + self.reader, at, offset)).shuffle(turn)
            for i in turn[taken:].tolist():
                taken += 1
                self._place = (at, offset, taken)
                yield block[i]
            at, offset, taken = at_next, offset_next, 0
            self._place = (at, offset, 0)
        self.epoch += 1
        self._place = (0, 0, 0)

    def batches(self, schema: Schema, size: int) -> Iterator[Batch]:
        """An epoch of batches as stored, targets and all: call ``schema.prepare`` before a model sees one.

        Cells that cannot be used are missing. A cell that names a file of this machine is one of them.
        """
        rows = iter(self)
        while chunk := list(islice(rows, size)):
            yield schema.collate([schema.encode(row, media=NONE, targets=True) for row in chunk])

    def state_dict(self) -> dict[str, Any]:
        """The place after the row given last, as plain data."""
        shard, offset, taken = self._place
        return {"epoch": self.epoch, "shard": shard, "offset": offset, "taken": taken, "of": self._told()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place that ``state_dict`` told of: with the same shards, seed, buffer and readers."""
        if state["of"] != self._told():
            raise ConfigError("the place is one in another stream: its shards, seed, buffer or readers differ")
        self.epoch = int(state["epoch"])
        self._place = (int(state["shard"]), int(state["offset"]), int(state["taken"]))

    def _told(self) -> dict[str, Any]:
        names = [shard.path.name for shard in self.shards]
        return {"shards": names, "seed": self.seed, "buffer": self.buffer, "reader": self.reader, "readers": self.readers}

    @property
    def _by_row(self) -> bool:
        return len(self.shards) < self.readers

    def _order(self) -> list[tuple[int, Shard]]:
        """This reader's shards, numbered, in the order of the epoch."""
        turn = np.arange(len(self.shards))
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch, 0)).shuffle(turn)
        found = [(i, self.shards[i]) for i in turn.tolist()]
        return found if self._by_row else found[self.reader :: self.readers]

    def _block(self, order: list[tuple[int, Shard]], at: int, offset: int) -> tuple[list[Record], int, int]:
        """The next ``buffer`` rows from a place on, and the place after them."""
        block: list[Record] = []
        while at < len(order) and len(block) < self.buffer:
            number, shard = order[at]
            mine = self._mine(shard.records(offset, load=True), offset)
            if self.leave is not None:
                mine = ((i, row) for i, row in mine if not self.leave(number, i, row))
            wanted = self.buffer - len(block)
            some = list(islice(mine, wanted))
            block += [record for _, record in some]
            if len(some) < wanted:
                at, offset = at + 1, 0
            else:
                offset = some[-1][0] + 1
        return block, at, offset

    def _mine(self, rows: Iterator[Record], offset: int) -> Iterator[tuple[int, Record]]:
        numbered = enumerate(rows, offset)
        if not self._by_row:
            return numbered
        return ((i, row) for i, row in numbered if i % self.readers == self.reader)

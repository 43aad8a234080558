"""Batches in an order that follows from a seed and an epoch, so that a run can be taken up where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sensorium.data.column_storage import Index
from sensorium.data.encoded_rows import Rows
from sensorium.data.length_buckets import Cost, bucketed

if TYPE_CHECKING:
    from sensorium.core.batch import Batch


class Loader:
    """Batches of encoded rows, each by one gather a stream: no worker processes are needed.

    Shuffled where a seed is given: the order is a function of seed and epoch alone. A last batch of a single row is joined
    to the one before (batch statistics need two).

    Of ``ranks`` processes each takes its part of the same batches, ``batch_size`` rows each: together they see what one
    process with ``ranks * batch_size`` rows a batch would. A last batch is shared out evenly, or joined to the one before
    where it has not two rows for each.

    ``costs``: what each row costs; among ``bucket`` batches in a row, rows of like cost are put together. None: as drawn.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        rank: int = 0,
        ranks: int = 1,
        bucket: int = 0,
        costs: Cost | None = None,
    ) -> None:
        self.rows, self.batch_size, self.seed, self.epoch = rows, batch_size, seed, epoch
        self.rank, self.ranks, self.bucket, self.costs = rank, ranks, bucket, costs
        self.done = 0
        """Batches of this epoch that were handed out."""
        self._skip = 0

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size * self.ranks)
        short = 0 < rest < 2 * self.ranks and full > 0 and self.seed is not None
        return full + (rest > 0 and not short)

    def __iter__(self) -> Iterator[Batch]:
        first, self._skip = self._skip, 0
        for i, index in enumerate(self.batches()[first:], first):
            self.done = i + 1
            yield self.rows.batch(self._part(index))

    def batches(self) -> list[Index]:
        """The rows of each batch of this epoch, those of all processes together."""
        order = np.arange(len(self.rows), dtype=np.int64)
        together, count = self.batch_size * self.ranks, len(self)
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
            if self.costs is not None and self.bucket > 1:
                order = bucketed(order, together, self.bucket, self.costs, (self.seed, self.epoch))
        return [order[i * together : None if i == count - 1 else (i + 1) * together] for i in range(count)]

    def _part(self, index: Index) -> Index:
        """This process's rows of a batch."""
        return index if self.ranks == 1 else np.array_split(index, self.ranks)[self.rank]

    # ── resume: what Lightning asks of a loader that can go on in the middle of an epoch ────────────────────────────

    def state_dict(self) -> dict[str, int]:
        """Where it stands."""
        return {"epoch": self.epoch, "batch": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next pass goes on behind the batches of the same epoch that were handed out before."""
        if state["epoch"] == self.epoch:
            self._skip = self.done = state["batch"]

"""Batches in an order determined by seed and epoch, so that a run can resume within an epoch."""

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
    """Batches of encoded rows, by one gather per stream; no worker processes are needed.

    The order is a function of seed and epoch alone. When shuffled, a last batch of a single row is joined to the one
    before, since batch statistics need two. Each of ``ranks`` processes takes its part of the same batches: together they
    see what one process with ``ranks * batch_size`` rows per batch would. The last batch is divided evenly, or joined to
    the one before if it has fewer than two rows per process.

    Args:
        rows: The encoded rows.
        batch_size: Rows per batch and process.
        seed: Seed of the order; None keeps the order of the rows.
        epoch: The epoch number.
        rank: Number of this process, counted from 0.
        ranks: The number of processes.
        bucket: Batches among which rows are grouped by cost.
        costs: The cost of each row; None disables grouping.
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
        """Batches of this epoch returned so far."""
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
        """Return the row numbers of each batch of this epoch, over all processes."""
        order = np.arange(len(self.rows), dtype=np.int64)
        global_size, count = self.batch_size * self.ranks, len(self)
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
            if self.costs is not None and self.bucket > 1:
                order = bucketed(order, global_size, self.bucket, self.costs, (self.seed, self.epoch))
        return [order[i * global_size : None if i == count - 1 else (i + 1) * global_size] for i in range(count)]

    def _part(self, index: Index) -> Index:
        """This process's rows of a batch."""
        return index if self.ranks == 1 else np.array_split(index, self.ranks)[self.rank]

    # Resuming: Lightning's protocol for loaders that can continue within an epoch.

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches returned."""
        return {"epoch": self.epoch, "batch": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches already returned on the next pass, where ``state`` is of the same epoch."""
        if state["epoch"] == self.epoch:
            self._skip = self.done = state["batch"]

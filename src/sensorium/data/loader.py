"""Batches in an order that follows from a seed and an epoch, so that a run can be taken up where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sensorium.data.rows import Rows

if TYPE_CHECKING:
    from sensorium.core.batch import Batch


class Loader:
    """Batches of encoded rows, each by one gather a stream: no worker processes are needed.

    Shuffled where a seed is given: the order is a function of seed and epoch alone. A last batch of a single row is joined
    to the one before (batch statistics need two).
    """

    def __init__(self, rows: Rows, batch_size: int, *, seed: int | None = None, epoch: int = 0) -> None:
        self.rows, self.batch_size, self.seed, self.epoch = rows, batch_size, seed, epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size)
        alone = rest == 1 and full > 0 and self.seed is not None
        return full + (rest > 0 and not alone)

    def __iter__(self) -> Iterator[Batch]:
        order = np.arange(len(self.rows), dtype=np.int64)
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        for i in range(len(self)):
            last = i == len(self) - 1
            yield self.rows.batch(order[i * self.batch_size : None if last else (i + 1) * self.batch_size])

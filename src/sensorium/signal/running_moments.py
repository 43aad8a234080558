"""One-pass statistics: even subsampling and running moments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from sensorium.core.modality import Array

T = TypeVar("T")


def subsampled(items: Iterable[T], limit: int) -> list[T]:
    """Return at most ``limit`` of the ``items``, evenly spaced, in one deterministic pass."""
    kept: list[T] = []
    step = 1
    for i, item in enumerate(items):
        if i % step:
            continue
        kept.append(item)
        if len(kept) > limit:
            kept, step = kept[::2], step * 2
    return kept


class Moments:
    """Running mean and deviation of ``size`` channels, over rows that arrive in batches."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.first, self.second = np.zeros(size), np.zeros(size)

    def add(self, rows: Array) -> None:
        """Add ``rows`` ``[N, size]``, merged pairwise (Chan et al. 1979) so that a large mean costs no precision."""
        rows = np.asarray(rows, dtype=np.float64)
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        total = self.count + len(rows)
        gap = mean - self.first
        self.second += ((rows - mean) ** 2).sum(axis=0) + gap**2 * (self.count * len(rows) / total)
        self.first += gap * (len(rows) / total)
        self.count = total

    @property
    def mean(self) -> list[float]:
        """Mean of each channel."""
        return [float(value) for value in self.first]

    def deviation(self, least: float) -> list[float]:
        """Return the deviation of each channel; 1 where it is ``least`` or below, so that dividing is safe."""
        spread = np.sqrt(self.second / max(self.count, 1))
        return [float(value) if value > least else 1.0 for value in spread]

"""Statistics of samples that are looked at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from sensorium.core.modality import Array

T = TypeVar("T")


def thinned(items: Iterable[T], limit: int) -> list[T]:
    """At most ``limit`` items, evenly spread over all of them, in one pass and with no chance in it."""
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
    """Mean and deviation of each of ``size`` channels, over rows that come piece by piece."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.first, self.second = np.zeros(size), np.zeros(size)

    def add(self, rows: Array) -> None:
        """Rows ``[N, size]``. Merged pairwise (Chan et al. 1979), so that a large mean costs no digits."""
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
        return [float(value) for value in self.first]

    def deviation(self, least: float) -> list[float]:
        """Deviations; 1 where a channel hardly varies (``least`` or below), so that one can divide by them."""
        spread = np.sqrt(self.second / max(self.count, 1))
        return [float(value) if value > least else 1.0 for value in spread]

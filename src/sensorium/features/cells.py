"""Features of table cells for linear models and trees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.errors import ConfigError
from sensorium.core.expert import Features
from sensorium.core.layout import Layout, Row
from sensorium.core.registry import component

_ROWS, _VALUES = 20_000, 60_000_000
"""Largest number of rows, evenly spaced, and of cells from which quantiles are estimated."""
_FAR = 1e6


@component
class Cells(Features):
    """Table cells: numbers as normal scores and standardised, categories as indicators, and missing-value indicators.

    A number gives two features: the normal score of its rank among the training values, which limits outliers, and its
    standardised value, which keeps linear relations. Ties share their mean rank. A missing number is 0 (the median) in
    both; a cell that was missing in any training row has an indicator. Each known category is an indicator; an unknown
    one is all zero. Scores are those of scikit-learn's ``QuantileTransformer``, except that the lowest and highest do not
    exceed the expected extremes of a normal sample of that size, even where many cells share them.

    For trees: numbers standardised; categories of few values as indicators, of many as one number, their rank by frequency
    (0: the most frequent; unknown ones last). Missing cells are NaN.
    Source: normal scores, van der Waerden 1952, as in https://arxiv.org/abs/2106.11959, § 4.

    Args:
        quantiles: Number of quantiles that represent a distribution, interpolated linearly.
        reach: Scores and standardised values are clipped to plus and minus this.
        least: Categories in fewer training rows share one indicator.
        categories: Maximum number of categories with their own indicator, the most frequent first; others share one.
        indicators: Largest number of categories that trees read as indicators.
    """

    def __init__(
        self,
        layout: Row,
        *,
        quantiles: int = 256,
        reach: float = 4.0,
        least: int = 2,
        categories: int = 256,
        indicators: int = 10,
    ) -> None:
        super().__init__()
        if reach <= 0:
            raise ConfigError(f"cells: reach is above 0, not {reach:g}")
        self.quantiles, self.reach, self.least, self.categories = quantiles, reach, least, categories
        self.cardinalities = layout.cardinalities
        self.numbers = [i for i, n in enumerate(layout.cardinalities) if n == 0]
        self.codes = [i for i, n in enumerate(layout.cardinalities) if n > 0]
        self.sizes = [layout.cardinalities[i] for i in self.codes]
        self.starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        self.few = [i for i, size in enumerate(self.sizes) if size - 1 <= indicators]
        self.many = [i for i, size in enumerate(self.sizes) if size - 1 > indicators]
        self.points: Tensor
        self.ranks: Tensor
        self.limit: Tensor
        self.mean: Tensor
        self.deviation: Tensor
        self.gaps: Tensor
        self.column: Tensor
        self.place: Tensor
        self.declare("points", torch.float32, 2)  # [numbers, quantiles]
        self.declare("ranks", torch.float32, 2)  # rank of each point, 0 to 1; equal points share their rank
        self.declare("limit", torch.float32, 1)  # largest score of each number
        self.declare("mean", torch.float32, 1)
        self.declare("deviation", torch.float32, 1)
        self.declare("gaps", torch.int64, 1)  # cells that were missing in any training row
        self.declare("column", torch.int64, 1)  # indicator of each category of each column; -1: none
        self.declare("place", torch.float32, 1)  # rank by frequency of each category of each column

    @classmethod
    def reads(cls, layout: Layout) -> bool:
        return isinstance(layout, Row)

    @torch.no_grad()
    def fit(self, fields: Iterable[Field]) -> None:
        """Fit quantiles, means and deviations on evenly spaced rows, and category counts and missing cells on all of
        ``fields``.
        """
        cells = len(self.cardinalities)
        limit = min(_ROWS, max(1000, _VALUES // max(cells, 1)))
        rows_read, step = 0, 1
        kept: list[NDArray[np.float32]] = []
        missing = np.zeros(cells, dtype=bool)
        counts = np.zeros(sum(self.sizes), dtype=np.int64)
        for field in fields:
            data, real = (part.cpu().numpy() for part in _read(field))
            missing |= ~real.all(axis=0)
            known = real[:, self.codes]
            at = data[:, self.codes].astype(np.int64) + np.asarray(self.starts, dtype=np.int64)
            counts += np.bincount(at[known], minlength=len(counts))
            values = np.where(real, data, np.nan)[-rows_read % step :: step, self.numbers]
            kept.append(values.astype(np.float32))
            rows_read += len(data)
            while sum(map(len, kept)) > limit:
                kept, step = [np.concatenate(kept)[::2]], 2 * step
        self._measure(np.concatenate(kept) if kept else np.zeros((0, len(self.numbers)), dtype=np.float32))
        self.keep("gaps", torch.from_numpy(missing.nonzero()[0]))
        self._rank(counts)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        errors: list[str] = rest[-1]
        sizes = {name: len(self.numbers) for name in ("points", "ranks", "limit", "mean", "deviation")}
        sizes |= dict.fromkeys(("column", "place"), sum(self.sizes))
        for name, size in sizes.items():
            length = len(getattr(self, name))
            if length not in (0, size):  # 0: not yet fitted
                errors.append(f"{prefix}{name} is of {length} cells or values, not {size}")
        if len(self.column) and int(self.column.max()) >= len(self.column):
            errors.append(f"{prefix}column has indicators without a value")  # would allow any allocation

    def _measure(self, values: NDArray[np.float32]) -> None:
        """Learn the distribution of each number from ``[rows, numbers]``, NaN where missing."""
        count = (~np.isnan(values)).sum(axis=0)
        divisor = np.maximum(count, 1)
        numbers = values.astype(np.float64)
        mean = np.nansum(numbers, axis=0) / divisor
        deviation = np.sqrt(np.nansum((numbers - mean) ** 2, axis=0) / divisor)
        # A constant may have a tiny deviation by rounding: do not divide by it.
        deviation[deviation <= 1e-7 * np.maximum(np.abs(mean), 1e-30)] = 1.0
        points = max(2, min(self.quantiles, len(values)))
        place = np.linspace(0, 1, points)[:, None] * np.maximum(count - 1, 0)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(count - 1, 0))
        # NaN sorts last.
        order = np.sort(numbers, axis=0) if len(numbers) else np.zeros((1, numbers.shape[1]))
        below, above = np.take_along_axis(order, low, axis=0), np.take_along_axis(order, high, axis=0)
        interpolated = np.where(count > 0, below + (above - below) * (place - low), 0.0)
        normal = NormalDist()
        far = {n: normal.inv_cdf(1 - 0.5 / n) if n > 1 else 0.0 for n in set(count.tolist())}
        kept = torch.from_numpy(np.maximum.accumulate(interpolated, axis=0).T.astype(np.float32)).contiguous()
        first, beyond = (torch.searchsorted(kept, kept, right=right) for right in (False, True))
        self.keep("points", kept)
        self.keep("ranks", (first + beyond - 1) / (2 * (points - 1)))
        self.keep("limit", torch.tensor([min(self.reach, far[n]) for n in count.tolist()]))
        self.keep("mean", torch.from_numpy(mean))
        self.keep("deviation", torch.from_numpy(deviation))

    def _rank(self, counts: NDArray[np.int64]) -> None:
        """Assign indicators and frequency ranks to categories from their ``counts``."""
        column, place = np.full(len(counts), -1), np.zeros(len(counts))
        width = 0
        for start, size in zip(self.starts, self.sizes, strict=True):
            known = counts[start + 1 : start + size]
            order = np.argsort(-known, kind="stable")
            own = order[: self.categories]
            own = np.sort(own[known[own] >= self.least])
            mine = np.full(size - 1, width + len(own))  # the shared one
            mine[own] = width + np.arange(len(own))
            column[start + 1 : start + size] = mine
            width += len(own) + (len(own) < size - 1)
            place[start + 1 + order] = np.arange(size - 1)
            place[start] = size - 1
        self.keep("column", torch.from_numpy(column))
        self.keep("place", torch.from_numpy(place))

    @torch.no_grad()
    def forward(self, field: Field) -> Tensor:
        """Return scores, standardised values, missing indicators and category indicators ``[B, F]`` of cells ``[B,
        cells]``.
        """
        data, real = _read(field)
        number, known = data[:, self.numbers], real[:, self.numbers]
        standard = self._standard(number).clamp(-self.reach, self.reach)
        width = int(self.column.max()) + 1 if len(self.column) else 0
        at = self.column[self._values(data)].masked_fill(~real[:, self.codes], -1)
        indicator = data.new_zeros(len(data), width + 1).scatter_(1, at.where(at >= 0, width), 1.0)[:, :width]
        parts = [self._scores(number).masked_fill(~known, 0.0), standard.masked_fill(~known, 0.0)]
        return torch.cat([*parts, (~real[:, self.gaps]).to(data.dtype), indicator], dim=1)

    @torch.no_grad()
    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Return numbers, indicators of small categories and frequency ranks of large ones; NaN where missing."""
        data, real = _read(field)
        place, known = self._values(data), real[:, self.codes]
        parts = [self._standard(data[:, self.numbers]).masked_fill(~real[:, self.numbers], math.nan)]
        for i in self.few:
            value = torch.arange(self.starts[i] + 1, self.starts[i] + self.sizes[i], device=data.device)
            same = (place[:, i, None] == value).to(data.dtype)
            parts.append(same.masked_fill(~known[:, i, None], math.nan))
        parts.append(self.place[place[:, self.many]].masked_fill(~known[:, self.many], math.nan))
        return torch.cat(parts, dim=1)

    def _values(self, data: Tensor) -> Tensor:
        """Return the index of each category among the categories of all columns ``[B, codes]``."""
        start = torch.tensor(self.starts, dtype=torch.int64, device=data.device)
        return data[:, self.codes].long() + start

    def _standard(self, number: Tensor) -> Tensor:
        return ((number - self.mean) / self.deviation).clamp(-_FAR, _FAR)

    def _scores(self, number: Tensor) -> Tensor:
        """Return the normal score of each number's mean rank among the training values ``[B, numbers]``."""
        if not number.shape[1]:
            return number
        values, points, limit = number.t().contiguous(), self.points, self.limit[:, None]  # [numbers, B]
        last = points.shape[1] - 1
        at = (torch.searchsorted(points, values, right=True) - 1).clamp(min=0)
        low, high = points.gather(1, at), points.gather(1, (at + 1).clamp(max=last))
        between = ((at + (values - low) / (high - low)) / last).clamp(0, 1)
        rank = torch.where(values == low, self.ranks.gather(1, at), between)
        score: Tensor = torch.special.ndtri(rank)
        return score.clamp(-limit, limit).t()


def _read(field: Field) -> tuple[Tensor, Tensor]:
    """Return the cells, zero where missing, and which are present."""
    real = torch.ones_like(field.data, dtype=torch.bool) if field.mask is None else field.mask
    return field.data.masked_fill(~real, 0.0), real

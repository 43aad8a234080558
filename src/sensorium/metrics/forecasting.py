"""Scores of forecasts, kept by row: MASE, pinball loss, coverage and width of the 80 % interval, absolute error."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.scorer import Kept, Scorer
from sensorium.metrics.weighting import ratio

METRICS = ("mase", "coverage_80", "mae", "pinball", "width_80")


def row_scores(low: Tensor, median: Tensor, high: Tensor, pinball: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    """Return the ``METRICS`` of each row ``[B, 5]``; NaN where undefined.

    MASE (Hyndman and Koehler 2006, https://doi.org/10.1016/j.ijforecast.2006.03.001): the mean absolute error of a series
    over the known steps of its future, divided by ``scale``; then the mean over the series of a row.

    Args:
        low: 10 % quantiles ``[B, H, C]``.
        median: Medians ``[B, H, C]``.
        high: 90 % quantiles ``[B, H, C]``.
        pinball: Mean pinball loss over the quantiles ``[B, H, C]``.
        truth: True values ``[B, H, C]``, NaN where unknown.
        scale: The mean absolute error of the naive forecast within the past ``[B, C]``; NaN or 0 where undefined.
    """
    known = truth.isfinite()
    missing = ~known

    def over_row(value: Tensor) -> Tensor:
        return value.masked_fill(missing, torch.nan).nanmean(dim=(1, 2))

    error = (truth - median).abs().masked_fill(missing, torch.nan)
    scaled = error.nanmean(dim=1) / scale.masked_fill(~(scale > 0), torch.nan)
    inside = ((truth >= low) & (truth <= high)).to(truth)
    scores = [scaled.nanmean(dim=1), over_row(inside), error.nanmean(dim=(1, 2)), over_row(pinball), over_row(high - low)]
    return torch.stack(scores, dim=1)


class ForecastScorer(Scorer[Any]):
    """Keeps the scores of each row, and its error by step.

    Args:
        score: Maps an output and a batch to what is kept: ``scores`` ``[n, 5]`` as of ``row_scores``, and tensors for
            the views.
    """

    def __init__(self, score: Callable[[Any, Batch], Kept]) -> None:
        super().__init__()
        self._score = score

    def keep(self, output: Any, batch: Batch) -> Kept:
        return self._score(output, batch)

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        chosen = [name for name in METRICS if names is None or name in names]
        weights = self.ones() if weights is None else weights
        if self.rows == 0:
            return {name: weights.new_full((len(weights),), torch.nan) for name in chosen}
        return {name: known_mean(self.kept["scores"][:, METRICS.index(name)], weights) for name in chosen}


def known_mean(value: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of ``value`` ``[B]`` over the rows where it is known, under ``weights`` ``[R, B]``."""
    known = value.isfinite().double()
    return ratio(weights @ value.double().nan_to_num(0.0, 0.0, 0.0), weights @ known)

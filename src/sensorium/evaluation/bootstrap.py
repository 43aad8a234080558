"""Bootstrap confidence intervals of scores."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from sensorium.core.scorer import Scorer

CHUNK = 4_000_000  # weights held at a time: 32 MB


def resample(
    scorer: Scorer[Any], *, names: Collection[str] | None = None, resamples: int = 300, seed: int = 0
) -> dict[str, Tensor]:
    """Compute metrics on bootstrap resamples of the rows.

    Args:
        scorer: The scorer that holds the rows.
        names: The metrics to compute; None for all.
        resamples: Number of resamples R.
        seed: Seed of the draws. Scorers with the same number of rows and the same seed give paired resamples.

    Returns:
        By metric, its value in each resample ``[R]``.
    """
    count = scorer.rows
    if count == 0 or resamples < 1:
        nothing = torch.full((max(0, resamples),), torch.nan, dtype=torch.float64)
        return dict.fromkeys(scorer.compute(names=names), nothing)
    generator = torch.Generator().manual_seed(seed)
    draws: dict[str, list[Tensor]] = {}
    step = max(1, CHUNK // count)
    for start in range(0, resamples, step):
        index = torch.randint(count, (min(step, resamples - start), count), generator=generator)
        ones = torch.ones(1, dtype=torch.float64).expand(index.shape)
        weights = torch.zeros(index.shape, dtype=torch.float64).scatter_add_(1, index, ones)
        for name, values in scorer.compute(weights, names).items():
            draws.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in draws.items()}


def intervals(
    scorer: Scorer[Any], *, resamples: int = 300, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Compute the percentile bootstrap interval of every metric.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        scorer: The scorer that holds the rows.
        resamples: Number of resamples, drawn with replacement.
        level: Coverage of the interval.
        seed: Seed of the draws.
    """
    drawn = resample(scorer, resamples=resamples, seed=seed)
    return {name: bounds(values, level) for name, values in drawn.items()}


def bounds(values: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval that covers ``level`` of the finite ``values``; NaN if there are none."""
    values = values[values.isfinite()]
    if values.numel() == 0:
        return float("nan"), float("nan")
    low, high = values.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=values.dtype)).tolist()
    return low, high

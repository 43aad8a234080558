"""Significance tests for differences between trained models, accounting for sampled rows and random seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from math import atan, erfc, inf, pi, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LEVEL = 0.95
NEARLY_NORMAL = 300.0
"""Degrees of freedom above which Student's t distribution is replaced by the normal."""


class Difference(NamedTuple):
    """A difference between two models: its mean, its 95 % confidence interval, and the two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float


class Noise(NamedTuple):
    """Variance of one score over seeds, and the degrees of freedom of its estimate."""

    variance: float
    freedom: float


def seed_noise(scores: Sequence[Sequence[float]]) -> Noise:
    """Estimate the residual variance of ``scores`` ``[F, S]`` (F models, the same S seeds) after model and seed effects.

    The variance is pooled over models, as a few seeds do not determine it for each. With one seed or one model it is
    unknown: zero, with zero degrees of freedom.
    """
    table = np.asarray(scores, dtype=np.float64)
    models, seeds = table.shape
    freedom = (models - 1) * (seeds - 1)
    if freedom == 0:
        return Noise(0.0, 0.0)
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    return Noise(float((rest**2).sum()) / freedom, freedom)


def difference(
    ahead: Sequence[float], behind: Sequence[float], drawn_ahead: Tensor, drawn_behind: Tensor, noise: Noise
) -> Difference:
    """Test the difference between two models, each trained from several seeds and scored on the same rows.

    The variance of the mean difference has two parts. Rows: the variance over paired bootstrap resamples of the difference
    averaged over the seeds. Seeds: twice the variance of one score divided by their number. Degrees of freedom follow
    Welch and Satterthwaite (https://doi.org/10.2307/3002019).

    Args:
        ahead: The score of the first model for each seed ``[S]``.
        behind: The score of the second model for each seed ``[S]``.
        drawn_ahead: The first model's score in each resample ``[S, R]``.
        drawn_behind: The second model's score in each resample ``[S, R]``.
        noise: The variance over seeds.
    """
    mean = float(np.mean(ahead) - np.mean(behind))
    of_rows = (drawn_ahead - drawn_behind).mean(dim=0)
    of_rows = of_rows[of_rows.isfinite()]
    rows = float(of_rows.var()) if of_rows.numel() > 1 else 0.0
    seeds = 2 * noise.variance / len(ahead)
    error = sqrt(rows + seeds)
    if error == 0.0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    freedom = (rows + seeds) ** 2 * noise.freedom / seeds**2 if seeds > 0 else inf
    reach = quantile(freedom) * error
    return Difference(mean, mean - reach, mean + reach, two_sided(mean / error, freedom))


def two_sided(t: float, freedom: float) -> float:
    """Return the two-sided p-value of the statistic ``t`` under Student's distribution with ``freedom`` degrees."""
    if freedom >= NEARLY_NORMAL:
        return erfc(abs(t) / sqrt(2))
    # With t = √ν tan θ the density becomes cos^(ν − 1) θ, which is smooth up to the end of the tail.
    nodes, weights = _legendre()

    def integral(start: float) -> float:
        angle = start + (pi / 2 - start) * (nodes + 1) / 2
        return float((weights * np.cos(angle) ** (freedom - 1)).sum() * (pi / 2 - start) / 2)

    return integral(atan(abs(t) / sqrt(freedom))) / integral(0.0)


@cache
def _legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(200)
    return nodes, weights


@lru_cache(maxsize=256)
def quantile(freedom: float, level: float = LEVEL) -> float:
    """Return the two-sided critical value at confidence ``level`` of Student's t with ``freedom`` degrees."""
    if freedom >= NEARLY_NORMAL:
        return NormalDist().inv_cdf((1 + level) / 2)
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > 1 - level else (low, middle)
    return (low + high) / 2


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values (``chances``, by name) for multiple comparisons; controls the family-wise error rate.

    Source: Holm 1979, https://www.jstor.org/stable/4615733.
    """
    adjusted: dict[str, float] = {}
    worst = 0.0
    for place, (name, chance) in enumerate(sorted(chances.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, (len(chances) - place) * chance))
        adjusted[name] = worst
    return {name: adjusted[name] for name in chances}

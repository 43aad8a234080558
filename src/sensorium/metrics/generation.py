"""Metrics of generated and real rows in a feature space: Fréchet distance, precision, recall, density, coverage.

No single one suffices: a model that answers with the wrong class may have a good Fréchet distance, one that repeats a
single good row a good precision. ``real`` ``[n, F]`` and ``made`` ``[m, F]`` are features, ``weight`` ``[R, n]`` or
``[R, m]`` how often each row counts in each of R resamples (``metrics/weighting.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.metrics.weighting import mean, ratio

NEIGHBOURS = 5
"""The k of the nearest-neighbour metrics, as in their sources."""
BLOCK = 1024
"""Number of rows whose distances to all others are in memory at a time."""


def frechet(real: Tensor, made: Tensor, weight: Tensor, made_weight: Tensor | None = None) -> Tensor:
    """Return the Fréchet distance ``[R]`` of two Gaussians with the moments of the rows: ``|μ - ν|² + tr(Σ + Τ - 2√(ΣΤ))``.

    The trace of the root is the sum of the roots of the eigenvalues of ``√Σ Τ √Σ``, which is symmetric.

    Source: Heusel et al. 2017, https://arxiv.org/abs/1706.08500, equation 6.

    Args:
        real: Features of real rows ``[n, F]``.
        made: Features of made rows ``[m, F]``.
        weight: ``[R, n]``.
        made_weight: ``[R, m]``; None: as ``weight``.
    """
    made_weight = weight if made_weight is None else made_weight
    distances = []
    for own, other in zip(weight.double(), made_weight.double(), strict=True):
        if own.sum() < 2 or other.sum() < 2:
            distances.append(torch.tensor(torch.nan, dtype=torch.float64))
            continue
        centre, spread = _moments(real.double(), own)
        made_centre, made_spread = _moments(made.double(), other)
        values, vectors = torch.linalg.eigh(spread)
        root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
        shared = torch.linalg.eigvalsh(root @ made_spread @ root).clamp_min(0).sqrt().sum()
        distance = (centre - made_centre).square().sum() + spread.trace() + made_spread.trace() - 2 * shared
        distances.append(distance.clamp_min(0))
    return torch.stack(distances)


def _moments(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[F]`` and unbiased covariance ``[F, F]`` of ``rows``, each counted ``weight`` ``[n]`` times."""
    total = weight.sum()
    centre = weight @ rows / total
    apart = rows - centre
    return centre, (apart * weight[:, None]).T @ apart / (total - 1)


def radii(rows: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the distance ``[n]`` of each of ``rows`` to its ``k``-th nearest other row (with fewer rows, the farthest)."""
    k = min(k, len(rows) - 1)
    if k < 1:
        return rows.new_zeros(len(rows))
    # The nearest row is the row itself.
    return torch.cat([torch.cdist(part, rows).kthvalue(k + 1, dim=1).values for part in torch.split(rows, BLOCK)])


def within(queries: Tensor, centres: Tensor, radius: Tensor) -> Tensor:
    """Return the number ``[m]`` of balls of ``radius`` ``[n]`` around ``centres`` ``[n, F]`` that contain each of
    ``queries`` ``[m, F]``."""
    return torch.cat([(torch.cdist(part, centres) <= radius).sum(dim=1) for part in torch.split(queries, BLOCK)])


def precision(real: Tensor, made: Tensor, weight: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the share of made rows within the manifold of real ones: nearer to a real row than its ``k``-th neighbour.

    Source: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, equation 2. Neighbours are those of all rows in
    every resample.

    Args:
        real: Features of real rows.
        made: Features of made rows.
        weight: Of made rows.
        k: Number of neighbours.
    """
    return mean((within(made, real, radii(real, k)) > 0).double(), weight)


def recall(real: Tensor, made: Tensor, weight: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the share of real rows within the manifold of made ones; ``precision`` with the roles exchanged.

    Args:
        real: Features of real rows.
        made: Features of made rows.
        weight: Of real rows.
        k: Number of neighbours.
    """
    return precision(made, real, weight, k)


def density(real: Tensor, made: Tensor, weight: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the mean number of balls of real rows that contain a made row, relative to ``k``; outliers count less than in
    ``precision``. It may exceed 1.

    Source: Naeem et al. 2020, https://arxiv.org/abs/2002.09797, equation 4.

    Args:
        real: Features of real rows.
        made: Features of made rows.
        weight: Of made rows.
        k: Number of neighbours.
    """
    return mean(within(made, real, radii(real, k)).double(), weight) / max(1, min(k, len(real) - 1))


def coverage(
    real: Tensor,
    made: Tensor,
    weight: Tensor,
    labels: tuple[Tensor, Tensor] | None = None,
    k: int = NEIGHBOURS,
) -> Tensor:
    """Return the share of real rows that have a made row in their ball; with ``labels``, one of their own label.

    Source: Naeem et al. 2020, equation 5.

    Args:
        real: Features of real rows.
        made: Features of made rows.
        weight: Of real rows.
        labels: Of real rows ``[n]`` and of made rows ``[m]``.
        k: Number of neighbours.
    """
    radius = radii(real, k)
    if labels is None:
        return mean((nearest_rows(real, made)[0] <= radius).double(), weight)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for label in torch.unique(labels[0]):
        own, other = labels[0] == label, labels[1] == label
        if other.any():
            covered[own] = nearest_rows(real[own], made[other])[0] <= radius[own]
    return mean(covered.double(), weight)


def nearest_rows(queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance ``[m]`` of ``queries`` ``[m, F]`` to the nearest of ``rows`` ``[n, F]``, and its index."""
    parts = [torch.cdist(part, rows).min(dim=1) for part in torch.split(queries, BLOCK)]
    if not parts:
        return queries.new_zeros(0), torch.zeros(0, dtype=torch.long)
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def median(value: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted lower median ``[R]`` of ``value`` ``[n]`` under ``weight`` ``[R, n]``; NaN without rows."""
    order = value.argsort()
    running = weight[:, order].cumsum(dim=1)
    total = running[:, -1:]
    at = (running < total / 2).sum(dim=1).clamp(max=len(value) - 1)
    return torch.where(total[:, 0] > 0, value.double()[order][at], torch.nan)


def memorised(made: Tensor, held_out: Tensor, weight: Tensor) -> Tensor:
    """Return the distance of made rows to training rows, relative to that of held-out real rows: the ratio ``[R]`` of
    the median distances. About 1 for new rows, near 0 for copies.

    Args:
        made: Distance of each made row to the nearest training row ``[n]``.
        held_out: The same distance of real rows held out from training ``[n]``.
        weight: ``[R, n]``.
    """
    return ratio(median(made, weight), median(held_out, weight))

"""Regularised canonical correlation analysis of two or more sides, any of which may be absent in a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_WEAK = 1e-6


def canonical_directions(
    sides: Sequence[Tensor], present: Tensor, code: Tensor, *, ridge: float, rank: int
) -> list[Tensor]:
    """Return a linear map of each side into a common space in which rows of one code are close.

    The generalised problem with the sum of correlations as criterion; of two sides it is the usual analysis. Covariances
    are those of the rows that have a side; cross-covariances those of every two rows of one code, so that sides that never
    stand in one row meet through others. Directions are weighted by their correlation.
    Sources: Kettenring 1971, https://doi.org/10.1093/biomet/58.3.433 (SUMCOR); weights, Gong et al. 2014,
    https://arxiv.org/abs/1212.4522, § 3.3.

    Args:
        sides: Of each side numbers ``[N, F]`` in float64, centred over the rows that have it; others are not read.
        present: Which rows have which side ``[N, S]`` bool.
        code: Codes of the rows ``[N]``: rows of one code belong together.
        ridge: Added to each variance, in units of the side's mean variance.
        rank: Number of dimensions of the common space, at most.

    Returns:
        Of each side a matrix ``[F, at most rank]``; all have the same number of columns, which may be 0.
    """
    _, group = torch.unique(code, return_inverse=True)
    groups = int(group.max()) + 1 if len(group) else 0
    white, sums, counts = [], [], []
    for s, side in enumerate(sides):
        known = side * present[:, s, None]
        covariance = known.T @ known / present[:, s].sum().clamp(min=1)
        scale = covariance.diagonal().mean().clamp(min=1e-12) if len(covariance) else covariance.new_ones(())
        values, vectors = torch.linalg.eigh(covariance + ridge * scale * torch.eye(len(covariance)).to(covariance))
        white.append(vectors * values.clamp(min=1e-12 * float(scale)).rsqrt() @ vectors.T)
        sums.append(side.new_zeros(groups, side.shape[1]).index_add_(0, group, known))
        counts.append(side.new_zeros(groups).index_add_(0, group, present[:, s].to(side)))
    ends = [0, *torch.tensor([side.shape[1] for side in sides]).cumsum(0).tolist()]
    together = sides[0].new_zeros(ends[-1], ends[-1])
    for a in range(len(sides)):
        for b in range(a + 1, len(sides)):
            # Each row of one side with the mean of the rows of the other that belong to it, in either direction.
            both = (counts[a] > 0) & (counts[b] > 0)
            share = 1 / counts[a].clamp(min=1) + 1 / counts[b].clamp(min=1)
            rows = ((counts[a] + counts[b]) * both).sum().clamp(min=1)
            cross = (sums[a] * (share * both)[:, None]).T @ sums[b] / rows
            block = white[a] @ cross @ white[b]
            together[ends[a] : ends[a + 1], ends[b] : ends[b + 1]] = block
            together[ends[b] : ends[b + 1], ends[a] : ends[a + 1]] = block.T
    values, vectors = torch.linalg.eigh(together)
    values, vectors = values.flip(0)[:rank], vectors.flip(1)[:, :rank]
    kept = values > _WEAK
    weighted = vectors[:, kept] * values[kept]
    return [matrix @ weighted[ends[s] : ends[s + 1]] for s, matrix in enumerate(white)]

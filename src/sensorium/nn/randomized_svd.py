"""Randomised singular value decomposition."""

from __future__ import annotations

import torch
from torch import Tensor

_MORE, _PASSES = 10, 4


def principal(rows: Tensor, rank: int, generator: torch.Generator | None = None) -> Tensor:
    """Return the leading right singular vectors ``[F, at most rank]`` of a matrix that is not centred, strongest first.

    Orthogonal iteration from a random start: a few products with the matrix, which may be sparse.
    Source: Halko et al., https://arxiv.org/abs/0909.4061, algorithms 4.4 and 5.1.

    Args:
        rows: ``[N, F]``, dense or sparse.
        rank: The number of vectors.
        generator: Source of the random start.
    """
    columns = rows.t().coalesce() if rows.is_sparse else rows.t()
    width = min(rank + _MORE, *rows.shape)
    sketch = rows @ torch.randn(rows.shape[1], width, generator=generator)
    for _ in range(_PASSES):
        back = torch.linalg.qr(columns @ torch.linalg.qr(sketch)[0])[0]
        sketch = rows @ back
    basis = torch.linalg.qr(sketch)[0]  # [N, width]
    small = (columns @ basis).t()  # [width, F]
    directions: Tensor = torch.linalg.svd(small, full_matrices=False)[2].t()
    return directions[:, : min(rank, *rows.shape)]

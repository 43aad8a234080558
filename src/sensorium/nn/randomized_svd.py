"""The main directions of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

_MORE, _PASSES = 10, 4


def principal(rows: Tensor, rank: int, generator: torch.Generator | None = None) -> Tensor:
    """The top right singular vectors ``[F, at most rank]`` of ``rows`` (``[N, F]``, sparse or dense, not centred), by
    decreasing singular value; the start is drawn from ``generator``.

    Found by orthogonal iteration from a random start, so a truncated SVD of a large sparse matrix costs a few products.
    Source: Halko et al., https://arxiv.org/abs/0909.4061, algorithms 4.4 and 5.1.
    """
    columns = rows.t().coalesce() if rows.is_sparse else rows.t()
    width = min(rank + _MORE, *rows.shape)
    found = rows @ torch.randn(rows.shape[1], width, generator=generator)
    for _ in range(_PASSES):
        back = torch.linalg.qr(columns @ torch.linalg.qr(found)[0])[0]
        found = rows @ back
    basis = torch.linalg.qr(found)[0]  # [N, width]
    small = (columns @ basis).t()  # [width, F]
    directions: Tensor = torch.linalg.svd(small, full_matrices=False)[2].t()
    return directions[:, : min(rank, *rows.shape)]

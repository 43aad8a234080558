"""Randomised singular value decomposition."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_MORE, _PASSES = 10, 4


def principal(rows: Tensor, rank: int, generator: torch.Generator | None = None) -> Tensor:
    """Return the leading right singular vectors ``[F, at most rank]`` of a matrix that is not centred, strongest first.

    Orthogonal iteration from a random start: a few products with the matrix, which may be sparse.
    Source: Halko et al., https://arxiv.org/abs/0909.4061, algorithms 4.4 and 5.1.

    Args:
        rows: ``[N, F]``, dense or (on the CPU) sparse.
        rank: The number of vectors.
        generator: Source of the random start.
    """
    forth, back = _products(rows)
    width = min(rank + _MORE, *rows.shape)
    sketch = forth(torch.randn(rows.shape[1], width, generator=generator))
    for _ in range(_PASSES):
        sketch = forth(back(torch.linalg.qr(sketch)[0]))
    basis = torch.linalg.qr(sketch)[0]  # [N, width]
    # The left singular vectors of a tall matrix are those of its triangular factor, turned by the orthogonal one.
    tall, triangle = torch.linalg.qr(back(basis))  # [F, width], [width, width]
    directions: Tensor = tall @ torch.linalg.svd(triangle)[0]
    return directions[:, : min(rank, *rows.shape)]


def _products(rows: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return the products of ``rows`` and of their transpose with a dense matrix."""
    if not rows.is_sparse:
        return (lambda x: rows @ x), (lambda x: rows.t() @ x)
    from scipy.sparse import csr_matrix

    # SciPy multiplies a sparse matrix three times as fast as torch does one of coordinates.
    rows = rows.coalesce()
    matrix = csr_matrix((rows.values().numpy(), rows.indices().numpy()), shape=tuple(rows.shape))
    turned = matrix.T.tocsr()
    return (lambda x: torch.from_numpy(matrix @ x.numpy())), (lambda x: torch.from_numpy(turned @ x.numpy()))

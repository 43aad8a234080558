"""Outer products of several vectors, each extended by a constant 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def outer(vectors: Sequence[Tensor]) -> Tensor:
    """Return the flattened outer product ⊗ₛ [1; vₛ] of ``vectors`` ``[B, R]``: ``[B, (R + 1)^S]``, the last vector
    fastest.

    For a zero vector, what remains is the outer product of the others, and zeros.
    Source: https://arxiv.org/abs/1707.07250, equation 3.
    """
    one = vectors[0].new_ones(vectors[0].shape[0], 1)
    product = torch.cat([one, vectors[0]], dim=1)
    for vector in vectors[1:]:
        longer = torch.cat([one, vector], dim=1)
        product = (product.unsqueeze(2) * longer.unsqueeze(1)).flatten(1)
    return product


def orders(vectors: int, width: int) -> Tensor:
    """Return the number of features in each product of ``outer``, for that many ``vectors`` of ``width``: ``[(R +
    1)^S]``.
    """
    one = (torch.arange(width + 1) > 0).long()
    order = one
    for _ in range(vectors - 1):
        order = (order.unsqueeze(1) + one).flatten()
    return order

"""The outer product of several vectors, each with a 1 before it: every product of some of their features, once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def outer(vectors: Sequence[Tensor]) -> Tensor:
    """⊗ₛ [1; vₛ] of ``vectors`` ``[B, R]``, flattened: ``[B, (R + 1)^S]``, the last vector's features fastest.

    A zero vector leaves its 1: the result is then the outer product of the others, and zeros.
    Source: https://arxiv.org/abs/1707.07250, equation 3.
    """
    one = vectors[0].new_ones(vectors[0].shape[0], 1)
    product = torch.cat([one, vectors[0]], dim=1)
    for vector in vectors[1:]:
        longer = torch.cat([one, vector], dim=1)
        product = (product.unsqueeze(2) * longer.unsqueeze(1)).flatten(1)
    return product


def orders(vectors: int, width: int) -> Tensor:
    """How many features each entry of ``outer`` of ``vectors`` of ``width`` multiplies, ``[(R + 1)^S]``: 0 for the 1, 1
    for a single feature."""
    one = (torch.arange(width + 1) > 0).long()
    order = one
    for _ in range(vectors - 1):
        order = (order.unsqueeze(1) + one).flatten()
    return order

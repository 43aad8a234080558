"""Where losses become one number: weights and missing targets are handled here and nowhere else."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """``Σ weight·value / Σ weight`` over rows ``[B]``; rows of weight 0 do not matter, whatever stands there.

    All weights 0 gives 0, with gradients of 0.
    """
    values = torch.where(weight > 0, values, torch.zeros_like(values))
    total = weight.sum()
    return (values * weight).sum() / torch.where(total > 0, total, torch.ones_like(total))

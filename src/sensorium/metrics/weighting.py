"""Weighted sums that metrics are made of, so that one formula gives a score and all its bootstrap resamples.

Weights are ``[R, B]``: how often each of B rows counts in each of R resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Measure = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(prediction [B, ...], truth [B, ...], weight [R, B])`` to scores ``[R]``."""


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return ``above / below``, NaN where ``below`` is 0."""
    return torch.where(below > 0, above / below.clamp_min(1e-300), torch.nan)


def mean(value: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of ``value`` ``[B]`` in each resample under ``weight`` ``[R, B]``."""
    return ratio(weight @ value.double(), weight.sum(dim=1))

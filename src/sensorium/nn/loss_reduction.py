"""Reduction of losses to one number, with row weights, missing targets and several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Mean = Callable[[Tensor], Tensor]
"""Function that averages a tensor over the processes of a distributed run."""
_mean: Mean | None = None


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of ``values`` ``[B]``, ``Σ weight·value / Σ weight``; rows of ``weight`` 0 are ignored.

    If all weights are 0, the result and its gradients are 0. Within ``across``, the denominator is the mean weight per
    process, so that averaging gradients over processes gives the mean over all rows.
    """
    values = torch.where(weight > 0, values, torch.zeros_like(values))
    total = shared(weight.sum())
    return (values * weight).sum() / torch.where(total > 0, total, torch.ones_like(total))


def shared(value: Tensor) -> Tensor:
    """Return ``value`` averaged over processes within ``across``, without gradient; otherwise unchanged."""
    return value if _mean is None else _mean(value.detach())


def somewhere(weight: Tensor) -> Tensor:
    """Whether any ``weight`` is above 0, in any process within ``across``."""
    return shared((weight > 0).any().float()) > 0


@contextmanager
def across(mean: Mean | None) -> Iterator[None]:
    """Context manager: average over several processes with ``mean``; None: only over this process's rows.

    All processes must compute the same means in the same order.
    """
    global _mean
    before, _mean = _mean, mean
    try:
        yield
    finally:
        _mean = before

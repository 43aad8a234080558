"""Where losses become one number: weights and missing targets are handled here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Mean = Callable[[Tensor], Tensor]
"""The mean of a tensor over the processes that train one model together."""
_mean: Mean | None = None


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """``Σ weight·value / Σ weight`` over rows ``[B]``; rows of weight 0 do not matter, whatever stands there.

    All weights 0 gives 0, with gradients of 0. Within ``across`` the mean is over the rows of all processes: each gets its
    part of it, times their number, so that the mean over processes, which is what gradients go through, is the whole.
    """
    values = torch.where(weight > 0, values, torch.zeros_like(values))
    total = shared(weight.sum())
    return (values * weight).sum() / torch.where(total > 0, total, torch.ones_like(total))


def shared(value: Tensor) -> Tensor:
    """The mean of a value over processes, within ``across``; no gradient goes through it. Else the value itself."""
    return value if _mean is None else _mean(value.detach())


def somewhere(weight: Tensor) -> Tensor:
    """Whether any row counts, in any process within ``across``."""
    return shared((weight > 0).any().float()) > 0


@contextmanager
def across(mean: Mean | None) -> Iterator[None]:
    """Within it, means are over the rows of several processes, each of which must ask for the same ones in the same order.

    None: over this process's rows.
    """
    global _mean
    before, _mean = _mean, mean
    try:
        yield
    finally:
        _mean = before

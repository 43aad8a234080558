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
    """The mean ``Σ weight·value / Σ weight`` of ``values`` ``[B]`` with ``weight`` ``[B]``; values of rows with weight 0
    are ignored, even if not finite.

    Zero total weight gives 0, with zero gradients. Within ``across`` the mean is over the rows of all processes: each
    process returns its part times their number, so that the mean over processes, which gradients are averaged by, is the
    total mean.
    """
    values = torch.where(weight > 0, values, torch.zeros_like(values))
    total = shared(weight.sum())
    return (values * weight).sum() / torch.where(total > 0, total, torch.ones_like(total))


def shared(value: Tensor) -> Tensor:
    """The mean of ``value`` over processes, within ``across``, without a gradient; otherwise the value itself."""
    return value if _mean is None else _mean(value.detach())


def somewhere(weight: Tensor) -> Tensor:
    """Whether any row has a nonzero ``weight``, in any process within ``across``."""
    return shared((weight > 0).any().float()) > 0


@contextmanager
def across(mean: Mean | None) -> Iterator[None]:
    """Context in which means are over the rows of several processes; ``mean`` averages over processes, all of which must
    ask for the same means in the same order.

    None: over this process's rows.
    """
    global _mean
    before, _mean = _mean, mean
    try:
        yield
    finally:
        _mean = before

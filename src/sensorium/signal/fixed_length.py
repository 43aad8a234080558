"""Resampling of series of any length to a fixed number of steps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def course(x: Tensor, steps: int, lengths: Tensor | None = None) -> Tensor:
    """Average each row of ``x`` over ``steps`` equal stretches: ``[B, ..., T]`` to ``[B, ..., steps]``.

    Stretch boundaries may fall within a step, which then counts by its share; so a series may be shorter than ``steps``. A
    row without steps gives zeros.

    Args:
        x: ``[B, ..., T]``.
        steps: The number of stretches.
        lengths: Real steps of each row ``[B]``; None: all.
    """
    wide = x if x.device.type == "mps" else x.double()
    length = x.shape[-1]
    if lengths is None:
        lengths = torch.full((x.shape[0],), length, device=x.device)
    lengths = lengths.reshape(-1, *[1] * (x.dim() - 1))
    real = torch.arange(length, device=x.device) < lengths
    upto = F.pad(wide.masked_fill(~real, 0.0).cumsum(dim=-1), (1, 0))  # sums of the first t steps
    ends = torch.arange(steps + 1, dtype=wide.dtype, device=x.device) * lengths / steps
    before = ends.floor().long().clamp_max(length)
    after = (before + 1).clamp_max(length)
    shape = (*x.shape[:-1], steps + 1)
    low, high = (upto.gather(-1, index.expand(shape)) for index in (before, after))
    reached = low + (ends - before) * (high - low)
    return (reached.diff(dim=-1) * steps / lengths.clamp_min(1)).to(x.dtype)

"""The course of a signal of any length in a fixed number of steps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def course(x: Tensor, steps: int, lengths: Tensor | None = None) -> Tensor:
    """Means ``[B, ..., steps]`` over ``steps`` equal stretches of each row of ``[B, ..., T]``.

    A row's stretches divide its own length, the first of ``lengths`` ``[B]`` steps; None: all. A stretch that is
    shorter than a step, or ends within one, takes that share of it, so a series may be shorter than its course. A row
    without steps gives zeros.
    """
    wide = x if x.device.type == "mps" else x.double()
    length = x.shape[-1]
    if lengths is None:
        lengths = torch.full((x.shape[0],), length, device=x.device)
    lengths = lengths.reshape(-1, *[1] * (x.dim() - 1))
    real = torch.arange(length, device=x.device) < lengths
    upto = F.pad(wide.masked_fill(~real, 0.0).cumsum(dim=-1), (1, 0))  # what the first t steps add up to
    ends = torch.arange(steps + 1, dtype=wide.dtype, device=x.device) * lengths / steps
    before = ends.floor().long().clamp_max(length)
    after = (before + 1).clamp_max(length)
    shape = (*x.shape[:-1], steps + 1)
    low, high = (upto.gather(-1, index.expand(shape)) for index in (before, after))
    reached = low + (ends - before) * (high - low)
    return (reached.diff(dim=-1) * steps / lengths.clamp_min(1)).to(x.dtype)

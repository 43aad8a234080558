"""Which tokens are hidden, and what stood in their place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def hidden_tokens(real: Tensor, share: float) -> Tensor:
    """A random ``share`` of the tokens of each row that are ``real`` ``[B, N]``: at least one, and never all of several."""
    chance = torch.rand(real.shape, device=real.device)
    count = real.sum(dim=1, keepdim=True)
    wanted = (count * share).round().clamp(min=1).minimum((count - 1).clamp(min=1)) * (count > 0)
    order = chance.masked_fill(~real, 2.0).argsort(dim=1).argsort(dim=1)
    return (order < wanted) & real


def patches(data: Tensor, stride: Sequence[int]) -> Tensor:
    """The patches of ``data`` ``[B, C, *size]``, ``stride`` places along each axis, one for each token, last axis fastest:
    ``[B, N, C · stride]``. Padded with zeros at the end."""
    size = data.shape[2:]
    extra = [-n % p for n, p in zip(size, stride, strict=True)]
    whole = F.pad(data, [n for more in reversed(extra) for n in (0, more)])
    shape = [part for n, p in zip(whole.shape[2:], stride, strict=True) for part in (n // p, p)]
    apart = whole.reshape(len(data), data.shape[1], *shape)
    axes = len(size)
    order = [0, *(2 + 2 * a for a in range(axes)), 1, *(3 + 2 * a for a in range(axes))]
    return apart.permute(order).flatten(1 + axes).flatten(1, axes)

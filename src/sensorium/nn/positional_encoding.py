"""Sinusoidal and interpolated position encodings, for inputs of any length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def sinusoids(length: int, dim: int, like: Tensor) -> Tensor:
    """Return sinusoidal position encodings ``[length, dim]``: sines, then cosines, with type and device of ``like``.

    Source: https://arxiv.org/abs/1706.03762, § 3.5.
    """
    half = (dim + 1) // 2
    rate = torch.exp(torch.arange(half, device=like.device, dtype=like.dtype) * (-math.log(10000.0) / max(half - 1, 1)))
    angle = torch.arange(length, device=like.device, dtype=like.dtype).unsqueeze(1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :dim]


def grid_sinusoids(size: Sequence[int], dim: int, like: Tensor) -> Tensor:
    """Return position encodings ``[N, dim]`` of the cells of a grid of ``size``, last axis fastest; like ``like``.

    Each axis gets an equal share of the features.
    """
    axes = len(size)
    parts: list[Tensor] = []
    for axis, length in enumerate(size):
        share = dim // axes + (axis < dim % axes)
        shape = [1] * axes + [share]
        shape[axis] = length
        parts.append(sinusoids(length, share, like).reshape(shape).expand(*size, share))
    return torch.cat(parts, dim=-1).flatten(0, axes - 1)


def resized(places: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate learned position embeddings ``places`` ``[D, *grid]`` to another ``size`` (bicubic for two axes)."""
    mode = {1: "linear", 2: "bicubic", 3: "trilinear"}[len(size)]
    between: Tensor = F.interpolate(places.unsqueeze(0), size=tuple(size), mode=mode, align_corners=False)
    return between.squeeze(0)

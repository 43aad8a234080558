"""Convolutions over one, two or three dimensions by number, and masks that shrink with them."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each cell of a grid ``[B, C, ...]``: rows and cells do not touch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class BatchNorm(nn.Module):
    """Batch normalisation that takes a batch of a single cell too: what it has learnt so far stands in."""

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        self.norm = BATCH_NORM[axes](channels)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        if self.training and x.numel() == x.shape[1]:
            still: Tensor = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
            return still
        normal: Tensor = norm(x)
        return normal


def norm(kind: Literal["batch", "layer"], channels: int, axes: int) -> nn.Module:
    """Batch or layer normalisation (``kind``) of ``channels`` for a grid of ``axes`` dimensions."""
    return BatchNorm(channels, axes) if kind == "batch" else ChannelNorm(channels)


def channels_last(x: Tensor) -> Tensor:
    """The grid ``x`` ``[B, C, ...]`` with channels innermost in memory: small convolutions take half the time on a CPU."""
    return x if x.dim() == 3 else x.contiguous(memory_format=LAST[x.dim() - 2])


def clear(x: Tensor, mask: Tensor | None, value: float = 0.0) -> Tensor:
    """The grid ``x`` ``[B, C, T, ...]`` with ``value`` where ``mask`` ``[B, T]`` is False."""
    if mask is None:
        return x
    # masked_fill would give up the channels-last order that the convolution chose, and all that follows would be slower.
    return torch.where(mask.reshape(mask.shape[0], 1, mask.shape[1], *[1] * (x.dim() - 3)), x, value)


def thin(mask: Tensor | None, stride: int) -> Tensor | None:
    """``mask`` after a centred convolution with this ``stride``, or after pooling ``stride`` cells."""
    return None if mask is None else mask[:, ::stride]


def cells(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The grid ``x`` ``[B, C, T, ...]`` as tokens ``[B, N, C]``, last axis fastest, and which are real ``[B, N]``
    according to ``mask``."""
    tokens = x.flatten(2).transpose(1, 2)
    if mask is None:
        return tokens, tokens.new_ones(tokens.shape[:2]).bool()
    return tokens, mask.reshape(*mask.shape, *[1] * (x.dim() - 3)).expand(mask.shape[0], *x.shape[2:]).flatten(1)


def first_stride(size: tuple[int, ...]) -> int:
    """The stride that reduces a grid of ``size`` to about 1,000 cells (28 × 28 stays, 60 × 40 is halved): a power of two
    up to 4."""
    excess = (math.prod(size) / 1024) ** (1 / len(size))
    return 1 if excess <= 1 else 2 if excess <= 3 else 4

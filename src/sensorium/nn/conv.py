"""Convolution, normalisation and pooling layers by dimension (1 to 3), and masks for padded grids."""

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
    """Layer normalisation over the channels of each cell of a grid ``[B, C, ...]``, independent of other cells and
    rows.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class BatchNorm(nn.Module):
    """Batch normalisation that uses its running statistics for a training batch with a single value per channel."""

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
    """Return batch or layer normalisation (``kind``) of ``channels`` for a grid of ``axes`` dimensions."""
    return BatchNorm(channels, axes) if kind == "batch" else ChannelNorm(channels)


def channels_last(x: Tensor) -> Tensor:
    """Return grid ``x`` ``[B, C, ...]`` in channels-last memory format: small convolutions take half the time on a CPU."""
    return x if x.dim() == 3 else x.contiguous(memory_format=LAST[x.dim() - 2])


def clear(x: Tensor, mask: Tensor | None, value: float = 0.0) -> Tensor:
    """Set grid ``x`` ``[B, C, T, ...]`` to ``value`` where its first axis is padding by ``mask`` ``[B, T]``."""
    if mask is None:
        return x
    # masked_fill would lose the channels-last memory format and slow down the layers that follow.
    return torch.where(mask.reshape(mask.shape[0], 1, mask.shape[1], *[1] * (x.dim() - 3)), x, value)


def thin(mask: Tensor | None, stride: int) -> Tensor | None:
    """Return the ``mask`` after a centred convolution with this ``stride``, or after pooling ``stride`` cells."""
    return None if mask is None else mask[:, ::stride]


def cells(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Flatten grid ``x`` ``[B, C, T, ...]`` to tokens ``[B, N, C]``, last axis fastest, and their mask ``[B, N]``.

    ``mask`` ``[B, T]`` marks the real part of the first axis; None: all.
    """
    tokens = x.flatten(2).transpose(1, 2)
    if mask is None:
        return tokens, tokens.new_ones(tokens.shape[:2]).bool()
    return tokens, mask.reshape(*mask.shape, *[1] * (x.dim() - 3)).expand(mask.shape[0], *x.shape[2:]).flatten(1)


def first_stride(size: tuple[int, ...]) -> int:
    """Return the stride (1, 2 or 4) that brings a grid of ``size`` to about 1,000 cells (28 × 28 stays, 60 × 40 is
    halved).
    """
    excess = (math.prod(size) / 1024) ** (1 / len(size))
    return 1 if excess <= 1 else 2 if excess <= 3 else 4

"""Convolutional network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import component
from sensorium.nn.conv import CONV, LAST, MAX_POOL, cells, channels_last, clear, first_stride, norm, thin
from sensorium.nn.pool import MeanMax


class Stage(nn.Module):
    """One stage: convolution, max pooling by 2, normalisation, ReLU.

    Pooling comes before normalisation and ReLU, which then touch a quarter of the cells; ReLU commutes with it.
    """

    def __init__(self, axes: int, dim_in: int, dim: int, kernel: int, stride: int, kind: Literal["batch", "layer"]) -> None:
        super().__init__()
        self.stride = stride
        self.conv = CONV[axes](dim_in, dim, kernel, stride=stride, padding=kernel // 2, bias=False)
        # Rounded up, so that a single cell stays one.
        self.shrink = MAX_POOL[axes](2, ceil_mode=True)
        self.norm = norm(kind, dim, axes)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        mask = thin(mask, self.stride)
        # What lies past the end must not be the largest of a real cell, nor reach the normalisation.
        x = self.shrink(clear(self.conv(x), mask, -torch.inf))
        mask = thin(mask, 2)
        return clear(F.relu(self.norm(clear(x, mask)), inplace=True), mask), mask


@component
class Convnet(Encoder):
    """A small convolutional network for images, spectrograms, series and video, trained from scratch in seconds.

    Each stage halves the grid and doubles the channels; the remaining cells are the tokens, and mean and maximum over
    them give the vector. Use it rather than ``patch`` where rows are few: translation invariance is built in.
    Source: LeNet, https://doi.org/10.1109/5.726791, with batch normalisation, https://arxiv.org/abs/1502.03167.

    Args:
        dim: Width of the tokens and of the vector.
        depth: Stages; each halves the grid.
        width: Channels of the first stage; each stage doubles them.
        stride: Stride of the first convolution along each axis; None: 1 for small grids, more for large ones.
        norm: ``batch`` learns faster; ``layer`` keeps rows independent (tiny batches, private training).
        dropout: Share of features dropped after the last stage in training.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        depth: int = 3,
        width: int = 32,
        stride: int | None = None,
        norm: Literal["batch", "layer"] = "batch",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        axes = len(layout.size)
        step = stride or first_stride(layout.size)
        kernels = [3 if step == 1 else min(2 * step + 1, 7)] + [3] * (depth - 1)
        widths = [layout.channels, *(width * 2**i for i in range(depth))]
        self.stages = nn.ModuleList(
            Stage(axes, widths[i], widths[i + 1], kernels[i], step if i == 0 else 1, norm) for i in range(depth)
        )
        if axes > 1:  # With channels innermost small convolutions take half the time on a CPU.
            self.stages.to(memory_format=LAST[axes])  # type: ignore[call-overload]
        self._levels = tuple(Level(width * 2**i, (step * 2 ** (i + 1),) * axes) for i in range(depth))
        self.drop = nn.Dropout(dropout)
        self.token = nn.Linear(widths[-1], dim)
        self.pool = MeanMax(dim)

    @property
    def levels(self) -> tuple[Level, ...]:
        return self._levels

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, C, *size]``, ``mask`` ``[B, size[0]]``; a token for each cell of the last stage."""
        x = channels_last(clear(data, mask))
        pyramid = []
        for stage in self.stages:
            x, mask = stage(x, mask)
            if self.gives_pyramid:
                pyramid.append(x)
        grid, real = cells(x, mask)
        tokens = zeroed(self.token(self.drop(grid)), real)
        present = data.new_ones(data.shape[0]).bool()
        return Encoded(tokens, real, self.pool(tokens, real), present, tuple(x.shape[2:]), tuple(pyramid))

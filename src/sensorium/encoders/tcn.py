"""Temporal convolutional network."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import component
from sensorium.nn.conv import clear
from sensorium.nn.pool import MeanMax
from sensorium.nn.temporal_convolution import DilatedBlock


@component
class Tcn(Encoder):
    """A temporal convolutional network: dilated convolutions over the steps of a series or the frames of a spectrogram.

    One token for each step, without pooling; each block doubles the receptive field. Use it rather than ``recurrent`` for
    long series, and rather than ``convnet`` where the order of events over a long time matters.
    Source: Bai, Kolter and Koltun 2018, https://arxiv.org/abs/1803.01271.

    Args:
        dim: Width of the tokens and of the vector.
        depth: Blocks; the dilation doubles with each.
        width: Channels of the blocks.
        kernel: Kernel size of the convolutions, in steps.
        causal: Whether a step sees only itself and earlier steps, as in the paper; otherwise both sides.
        pool: The vector: ``meanmax`` over all steps, or the ``last`` step, which sees all others in a causal network.
        dropout: Share of channels dropped after each convolution in training.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        depth: int = 4,
        width: int = 64,
        kernel: int = 3,
        causal: bool = True,
        pool: Literal["meanmax", "last"] = "meanmax",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if kernel < 2 or depth < 1:
            raise ConfigError("tcn: kernel is 2 or more, depth 1 or more")
        self.dim = dim
        # The other axes (bands of a spectrogram, rows and columns of a video) are channels of their step.
        widths = [layout.channels * math.prod(layout.size[1:]), *[width] * depth]
        self.blocks = nn.ModuleList(DilatedBlock(widths[i], width, kernel, 2**i, causal, dropout) for i in range(depth))
        self.token = nn.Linear(width, dim)
        self.pool = MeanMax(dim) if pool == "meanmax" else None
        # Where other axes have become channels, no map of the layout's grid is left.
        self._levels = (Level(width, (1,)),) if len(layout.size) == 1 else ()

    @property
    def levels(self) -> tuple[Level, ...]:
        return self._levels

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, C, T, ...]``, ``mask`` ``[B, T]``; tokens ``[B, T, D]``."""
        x = data.movedim(2, -1).flatten(1, -2)  # [B, channels, T]
        real = x.new_ones((x.shape[0], x.shape[2])).bool() if mask is None else mask
        x = clear(x, real)
        for block in self.blocks:
            x = block(x, real)
        tokens = zeroed(self.token(x.transpose(1, 2)), real)
        if self.pool is not None:
            pooled = self.pool(tokens, real)
        else:
            last = (real.sum(dim=1) - 1).clamp_min(0)
            pooled = tokens.gather(1, last[:, None, None].expand(-1, 1, self.dim))[:, 0]
        pyramid = (x,) if self.gives_pyramid and self._levels else ()
        return Encoded(tokens, real, pooled, real.new_ones(real.shape[0]), (x.shape[2],), pyramid)

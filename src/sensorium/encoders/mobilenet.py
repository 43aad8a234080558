"""MobileNet, version 2."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import component
from sensorium.nn.conv import LAST, channels_last, clear, first_stride
from sensorium.nn.conv_blocks import Tail, Unit, ends

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and first step of each stage: table 2 of the paper."""


class Inverted(nn.Module):
    """An inverted residual block: expand, depthwise convolution, linear projection.

    With a shortcut where the shape is kept. Source: https://arxiv.org/abs/1801.04381, figure 4.
    """

    def __init__(self, axes: int, dim_in: int, dim: int, stride: int, expand: int, kind: Literal["batch", "layer"]) -> None:
        super().__init__()
        self.adds = stride == 1 and dim_in == dim
        within = dim_in * expand
        units = [Unit(axes, dim_in, within, 1, kind=kind, activation="relu6")] if expand > 1 else []
        units += [
            Unit(axes, within, within, stride=stride, groups=within, kind=kind, activation="relu6"),
            Unit(axes, within, dim, 1, kind=kind, activation="none"),
        ]
        self.units = nn.ModuleList(units)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        y = x
        for unit in self.units:
            y, mask = unit(y, mask)
        return (x + y if self.adds else y), mask


@component
class Mobilenet(Encoder):
    """MobileNet v2: depthwise convolutions between narrow layers; few weights and few operations.

    Use it where a model must be small: on a phone, in a browser. On a CPU it trains slower than ``convnet``, since dense
    convolutions are faster there. The compact variant has two blocks in each stage.
    Source: https://arxiv.org/abs/1801.04381.

    Args:
        dim: Width of the tokens and of the vector.
        variant: ``compact`` is sized by ``depth`` and ``width``; the others are the paper's, with its channels times this
            factor.
        depth: Stages of the compact variant; each but the first halves the grid.
        width: Channels of the compact variant's first stage; each stage doubles them.
        expand: Expansion factor of the compact variant.
        stride: Stride of the first convolution along each axis; None: the paper's 2; in the compact variant more for
            large grids.
        norm: ``batch`` learns faster; ``layer`` keeps rows independent (tiny batches, private training).
        dropout: Share of features dropped after the last stage in training.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        variant: Literal["compact", "x0.5", "x0.75", "x1.0", "x1.4"] = "compact",
        depth: int = 3,
        width: int = 32,
        expand: int = 2,
        stride: int | None = None,
        norm: Literal["batch", "layer"] = "batch",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        axes = len(layout.size)
        if variant == "compact":
            # Blocks are at their widest before they step: the stem takes the first step for them.
            step = stride or 2 * first_stride(layout.size)
            channels, kernel = width, min(2 * step + 1, 7) if step > 2 else 3
            table = [(expand, width * 2**i, 2, 2 if i else 1) for i in range(depth)]
            last = 2 * table[-1][1]
        else:
            times = float(variant[1:])
            step, kernel, channels = stride or 2, 3, eighths(32 * times)
            table = [(e, eighths(c * times), n, s) for e, c, n, s in _STAGES]
            last = eighths(1280 * max(times, 1.0))
        self.stem = Unit(axes, layout.channels, channels, kernel, stride=step, kind=norm, activation="relu6")
        self.stages = nn.ModuleList()
        levels, strides, whole = [], [], step
        for times_wider, wide, count, first in table:
            for i in range(count):
                strides.append(1 if i else first)
                self.stages.append(Inverted(axes, channels, wide, strides[-1], times_wider, norm))
                whole, channels = whole * strides[-1], wide
                levels.append(Level(wide, (whole,) * axes))
        self.ends = ends(strides)
        self._levels = tuple(levels[i] for i in self.ends)
        self.last = Unit(axes, channels, last, 1, kind=norm, activation="relu6")
        if axes > 1:  # With channels innermost small convolutions take half the time on a CPU.
            for part in (self.stem, self.stages, self.last):
                part.to(memory_format=LAST[axes])  # type: ignore[call-overload]
        self.tail = Tail(last, dim, dropout)

    @property
    def levels(self) -> tuple[Level, ...]:
        return self._levels

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, C, *size]``, ``mask`` ``[B, size[0]]``; a token for each cell of the last stage."""
        x, mask = self.stem(channels_last(clear(data, mask)), mask)
        pyramid = []
        for i, block in enumerate(self.stages):
            x, mask = block(x, mask)
            if self.gives_pyramid and i in self.ends:
                pyramid.append(x)
        encoded: Encoded = self.tail(*self.last(x, mask), pyramid)
        return encoded


def eighths(channels: float) -> int:
    """The multiple of 8 nearest to ``channels``, but at least nine tenths of it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near

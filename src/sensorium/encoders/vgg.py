"""VGG."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import component
from sensorium.nn.conv import LAST, MAX_POOL, channels_last, clear, first_stride, thin
from sensorium.nn.conv_blocks import Tail, Unit

_CONVOLUTIONS: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""Convolutions of each stage: table 1 of the paper, columns A, B, D and E."""


class Stage(nn.Module):
    """One stage: convolutions of 3 cells along each axis, then max pooling by 2."""

    def __init__(
        self, axes: int, dim_in: int, dim: int, count: int, stride: int, kind: Literal["batch", "layer", "none"]
    ) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            Unit(axes, dim if i else dim_in, dim, stride=1 if i else stride, kind=kind) for i in range(count)
        )
        # Rounded up, so that a single cell stays one.
        self.shrink = MAX_POOL[axes](2, ceil_mode=True)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for unit in self.units:
            x, mask = unit(x, mask)
        # After a ReLU nothing is below the zeros that stand past the end.
        mask = thin(mask, 2)
        return clear(self.shrink(x), mask), mask


@component
class Vgg(Encoder):
    """VGG: stacks of small convolutions with max pooling between them.

    Use it for comparison, or with a saved VGG; ``resnet`` trains deeper stacks with fewer weights. The compact variant
    has one convolution in its first stage and two in each other, with normalisation.
    Source: https://arxiv.org/abs/1409.1556; the standard ones are the paper's convolutions, without its three dense layers.

    Args:
        dim: Width of the tokens and of the vector.
        variant: ``compact`` is sized by ``depth`` and ``width``; the others are the paper's, for images of 224 pixels.
        depth: Stages of the compact variant; each halves the grid.
        width: Channels of the compact variant's first stage; each stage doubles them.
        stride: Stride of the first convolution along each axis; None: 1, or more for large grids in the compact variant.
        norm: ``batch`` learns faster; ``layer`` keeps rows independent; ``none`` as in the paper.
        dropout: Share of features dropped after the last stage in training.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        variant: Literal["compact", "vgg11", "vgg13", "vgg16", "vgg19"] = "compact",
        depth: int = 3,
        width: int = 32,
        stride: int | None = None,
        norm: Literal["batch", "layer", "none"] = "batch",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        axes = len(layout.size)
        if variant == "compact":
            counts = (1, *[2] * (depth - 1))
            widths = [width * 2**i for i in range(depth)]
            step = stride or first_stride(layout.size)
        else:
            counts, widths, step = _CONVOLUTIONS[variant], [64, 128, 256, 512, 512], stride or 1
        self.stages = nn.ModuleList()
        channels = layout.channels
        for i, (count, wide) in enumerate(zip(counts, widths, strict=True)):
            self.stages.append(Stage(axes, channels, wide, count, 1 if i else step, norm))
            channels = wide
        if axes > 1:  # With channels innermost small convolutions take half the time on a CPU.
            self.stages.to(memory_format=LAST[axes])  # type: ignore[call-overload]
        self._levels = tuple(Level(wide, (step * 2 ** (i + 1),) * axes) for i, wide in enumerate(widths))
        self.tail = Tail(channels, dim, dropout)

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
        encoded: Encoded = self.tail(x, mask, pyramid)
        return encoded

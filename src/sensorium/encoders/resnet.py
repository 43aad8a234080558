"""Residual network."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import component
from sensorium.nn.conv import LAST, MAX_POOL, channels_last, clear, first_stride, thin
from sensorium.nn.conv_blocks import Tail, Unit, ends

_BLOCKS: dict[str, tuple[int, ...]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
"""Blocks of each stage: table 1 of the paper. From 50 layers on they are bottlenecks."""


class Residual(nn.Module):
    """A residual block: two convolutions, or a bottleneck of three, and a shortcut.

    The stride is in the first 3 × 3 convolution. The shortcut is a 1 × 1 convolution where the shape changes.
    Source: https://arxiv.org/abs/1512.03385, figure 5.
    """

    def __init__(
        self, axes: int, dim_in: int, dim: int, stride: int, kind: Literal["batch", "layer"], *, narrow: bool = False
    ) -> None:
        super().__init__()
        if narrow:
            within = dim // 4
            units = [
                Unit(axes, dim_in, within, 1, kind=kind),
                Unit(axes, within, within, stride=stride, kind=kind),
                Unit(axes, within, dim, 1, kind=kind, activation="none"),
            ]
        else:
            units = [
                Unit(axes, dim_in, dim, stride=stride, kind=kind),
                Unit(axes, dim, dim, kind=kind, activation="none"),
            ]
        self.units = nn.ModuleList(units)
        self.straight = (
            None
            if stride == 1 and dim_in == dim
            else Unit(axes, dim_in, dim, 1, stride=stride, kind=kind, activation="none")
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        straight = x if self.straight is None else self.straight(x, mask)[0]
        for unit in self.units:
            x, mask = unit(x, mask)
        return F.relu(x + straight), mask


@component
class Resnet(Encoder):
    """ResNet: a deep convolutional network with residual blocks.

    Use it where ``convnet`` is too shallow. Reads images, spectrograms, series and video. The compact variant has one
    block of two convolutions in each stage.
    Source: ResNet, https://arxiv.org/abs/1512.03385; bottlenecks have their stride in the middle convolution, as is usual
        now.

    Args:
        dim: Width of the tokens and of the vector.
        variant: ``compact`` is sized by ``depth`` and ``width``; the others are the paper's, for images of 224 pixels.
        depth: Stages of the compact variant; each halves the grid.
        width: Channels of the compact variant's first stage; each stage doubles them.
        stride: Stride of the first convolution along each axis; None: the paper's 2; in the compact variant by the size
            of the grid.
        norm: ``batch`` learns faster; ``layer`` keeps rows independent (tiny batches, private training).
        dropout: Share of features dropped after the last stage in training.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        variant: Literal["compact", "resnet18", "resnet34", "resnet50", "resnet101"] = "compact",
        depth: int = 3,
        width: int = 32,
        stride: int | None = None,
        norm: Literal["batch", "layer"] = "batch",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        axes = len(layout.size)
        narrow = variant in ("resnet50", "resnet101")
        if variant == "compact":
            step = stride or first_stride(layout.size)
            self.stem = Unit(axes, layout.channels, width, 3 if step == 1 else 2 * step + 1, stride=step, kind=norm)
            self.shrink = None
            blocks, channels, steps = (1,) * depth, width, [2] * depth
            widths = [width * 2**i for i in range(depth)]
        else:
            step = stride or 2
            self.stem = Unit(axes, layout.channels, 64, 7, stride=step, kind=norm)
            self.shrink = MAX_POOL[axes](3, stride=2, padding=1)
            blocks, channels, steps = _BLOCKS[variant], 64, [1, 2, 2, 2]
            widths = [(256 if narrow else 64) * 2**i for i in range(4)]
        self.stages = nn.ModuleList()
        levels, strides, whole = [], [], step if self.shrink is None else 2 * step
        for count, wide, first in zip(blocks, widths, steps, strict=True):
            whole *= first
            levels.append(Level(wide, (whole,) * axes))
            for i in range(count):
                strides.append(1 if i else first)
                self.stages.append(Residual(axes, channels, wide, strides[-1], norm, narrow=narrow))
                channels = wide
        self._levels, self.ends = tuple(levels), ends(strides)
        if axes > 1:  # With channels innermost small convolutions take half the time on a CPU.
            self.stem.to(memory_format=LAST[axes])  # type: ignore[call-overload]
            self.stages.to(memory_format=LAST[axes])  # type: ignore[call-overload]
        self.tail = Tail(channels, dim, dropout)

    @property
    def levels(self) -> tuple[Level, ...]:
        return self._levels

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, C, *size]``, ``mask`` ``[B, size[0]]``; a token for each cell of the last stage."""
        x, mask = self.stem(channels_last(clear(data, mask)), mask)
        if self.shrink is not None:  # After a ReLU nothing is below the zeros that stand past the end.
            mask = thin(mask, 2)
            x = clear(self.shrink(x), mask)
        pyramid = []
        for i, block in enumerate(self.stages):
            x, mask = block(x, mask)
            if self.gives_pyramid and i in self.ends:
                pyramid.append(x)
        encoded: Encoded = self.tail(x, mask, pyramid)
        return encoded

"""ShuffleNet, version 2."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import component
from sensorium.nn.conv import LAST, MAX_POOL, channels_last, clear, first_stride, thin
from sensorium.nn.conv_blocks import Tail, Unit, ends

_WIDTHS: dict[str, tuple[int, int, int, int]] = {
    "x0.5": (48, 96, 192, 1024),
    "x1.0": (116, 232, 464, 1024),
    "x1.5": (176, 352, 704, 1024),
    "x2.0": (244, 488, 976, 2048),
}
"""Channels of stages 2, 3 and 4 and of the last convolution: table 5 of the paper."""


class Shuffle(nn.Module):
    """A ShuffleNet block: half of the channels are convolved, the others pass; then channels are shuffled.

    With a stride both halves are computed from all channels. Source: https://arxiv.org/abs/1807.11164, figure 3 c and d.
    """

    def __init__(self, axes: int, dim_in: int, dim: int, stride: int, kind: Literal["batch", "layer"]) -> None:
        super().__init__()
        self.stride, half = stride, dim // 2
        channels = dim_in if stride > 1 else half
        self.right = nn.ModuleList(
            [
                Unit(axes, channels, half, 1, kind=kind),
                Unit(axes, half, half, stride=stride, groups=half, kind=kind, activation="none"),
                Unit(axes, half, half, 1, kind=kind),
            ]
        )
        left = [
            Unit(axes, dim_in, dim_in, stride=stride, groups=dim_in, kind=kind, activation="none"),
            Unit(axes, dim_in, half, 1, kind=kind),
        ]
        self.left = nn.ModuleList(left if stride > 1 else [])

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        left, right = (x, x) if self.stride > 1 else x.chunk(2, dim=1)
        before = mask
        for unit in self.left:
            left, before = unit(left, before)
        for unit in self.right:
            right, mask = unit(right, mask)
        # Left 1, right 1, left 2, right 2, ...: each half of the next block has channels of both.
        mixed = torch.stack([left, right], dim=2).flatten(1, 2)
        return channels_last(mixed), mask


@component
class Shufflenet(Encoder):
    """ShuffleNet v2: each block convolves half of the channels, and channels are shuffled between blocks. Small and fast.

    Use it, like ``mobilenet``, where a model must be small; it has fewer operations for its weights. The compact variant
    has two blocks in each stage.
    Source: https://arxiv.org/abs/1807.11164.

    Args:
        dim: Width of the tokens and of the vector.
        variant: ``compact`` is sized by ``depth`` and ``width``; the others are the paper's, with its channels times this
            factor.
        depth: Stages of the compact variant; each halves the grid.
        width: Channels of the compact variant's first convolution, an even number; each stage doubles them.
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
        variant: Literal["compact", "x0.5", "x1.0", "x1.5", "x2.0"] = "compact",
        depth: int = 3,
        width: int = 32,
        stride: int | None = None,
        norm: Literal["batch", "layer"] = "batch",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width % 2:
            raise ConfigError(f"shufflenet: a width of {width} cannot be halved", fix="choose an even width")
        self.dim = dim
        axes = len(layout.size)
        if variant == "compact":
            step = stride or first_stride(layout.size)
            channels, kernel, self.shrink = width, 3 if step == 1 else 2 * step + 1, None
            table = [(width * 2 ** (i + 1), 2) for i in range(depth)]
            last = table[-1][0]
        else:
            *widths, last = _WIDTHS[variant]
            step, channels, kernel, self.shrink = stride or 2, 24, 3, MAX_POOL[axes](3, stride=2, padding=1)
            table = list(zip(widths, (4, 8, 4), strict=True))
        self.stem = Unit(axes, layout.channels, channels, kernel, stride=step, kind=norm)
        self.stages = nn.ModuleList()
        levels, strides, whole = [], [], step if self.shrink is None else 2 * step
        for wide, count in table:
            whole *= 2
            levels.append(Level(wide, (whole,) * axes))
            for i in range(count):
                strides.append(1 if i else 2)
                self.stages.append(Shuffle(axes, channels, wide, strides[-1], norm))
                channels = wide
        self._levels, self.ends = tuple(levels), ends(strides)
        self.last = Unit(axes, channels, last, 1, kind=norm)
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
        if self.shrink is not None:  # After a ReLU nothing is below the zeros that stand past the end.
            mask = thin(mask, 2)
            x = clear(self.shrink(x), mask)
        pyramid = []
        for i, block in enumerate(self.stages):
            x, mask = block(x, mask)
            if self.gives_pyramid and i in self.ends:
                pyramid.append(x)
        encoded: Encoded = self.tail(*self.last(x, mask), pyramid)
        return encoded

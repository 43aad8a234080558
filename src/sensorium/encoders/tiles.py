"""Large pictures in overlapping tiles."""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import build, component, find, split
from sensorium.nn.conv import clear

AT_ONCE = 8
"""Number of tiles encoded at a time in prediction."""
FAINT = 1e-6
"""Weight of a tile at its border: it counts only where no other tile overlaps."""


@component
class Tiles(Encoder):
    """A picture encoder that reads a large picture in overlapping tiles, for tasks on places at the picture's own size.

    The feature maps of the tiles are blended where they overlap, and there is a token for each tile. In prediction only
    eight tiles are encoded at a time, so that the memory of the encoder does not grow with the picture. Set the
    ``size`` of the image column, and of a mask's or edge map's, to the size at which pictures are to be read.
    Source: the overlap-tile strategy of U-Net, https://arxiv.org/abs/1505.04597.

    Args:
        dim: Width of the tokens and of the vector.
        encoder: The encoder of one tile: a name, or a mapping of kind and options.
        side: Side of a tile in pixels, rounded up to a multiple of the coarsest feature map's stride.
        overlap: Pixels that neighbouring tiles share, likewise rounded up; the outer quarter of it does not count where
            another tile lies, so it is best four times the reach of the encoder.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        encoder: str | dict[str, Any] = "convnet",
        side: int = 128,
        overlap: int = 32,
    ) -> None:
        super().__init__()
        if len(layout.size) != 2:
            raise ConfigError("tiles reads grids of two axes: height, width")
        if not 0 <= overlap < side:
            raise ConfigError(f"tiles: overlap {overlap} is from 0 to below side {side}")
        kind, options = split(encoder)
        small = Grid(layout.channels, (min(side, layout.size[0]), min(side, layout.size[1])))
        if not isinstance(small, find("encoders", kind).reads) or kind == "tiles":
            raise ConfigError(f"tiles: encoder {kind!r} does not read tiles", fix="name one that reads images, as convnet")
        self.inner: Encoder = build("encoders", {"kind": kind, "dim": dim, **options}, small)
        self.dim = dim
        self.token = nn.Identity() if self.inner.dim == dim else nn.Linear(self.inner.dim, dim)
        coarsest = [lcm(*(level.stride[axis] for level in self.inner.levels), 1) for axis in (0, 1)]
        self.side = tuple(-(-n // step) * step for n, step in zip(small.size, coarsest, strict=True))
        shared = [-(-overlap // step) * step for step in coarsest]
        self.overlap = tuple(min(n, side - step) for n, side, step in zip(shared, self.side, coarsest, strict=True))

    @classmethod
    def completed(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        kind, inner = split(options.get("encoder", "convnet"))
        completed = find("encoders", kind).completed(inner)
        return {**options, "encoder": {"kind": kind, **completed}} if completed != inner else dict(options)

    def adopt(self) -> None:
        """Let the encoder of a tile take over its weights."""
        self.inner.adopt()

    @property
    def levels(self) -> tuple[Level, ...]:
        return self.inner.levels

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, C, H, W]``, ``mask`` ``[B, H]``; a token for each tile."""
        rows, _, high, wide = data.shape
        real = data.new_ones(rows, high).bool() if mask is None else mask
        origins = [
            list(range(0, n, side - shared)) for n, side, shared in zip((high, wide), self.side, self.overlap, strict=True)
        ]
        size = [at[-1] + side for at, side in zip(origins, self.side, strict=True)]
        padded = data.new_zeros(rows, data.shape[1], *size)
        padded[:, :, :high, :wide] = clear(data, real)
        known = real.new_zeros(rows, size[0])
        known[:, :high] = real
        places = [(top, left) for top in origins[0] for left in origins[1]]
        self.inner.gives_pyramid = self.gives_pyramid
        levels = self.levels if self.gives_pyramid else ()
        canvases = [data.new_zeros(rows, level.channels, *level.size(size)) for level in levels]
        totals = [data.new_zeros(level.size(size)) for level in levels]
        vectors: list[Tensor] = []
        step = len(places) if torch.is_grad_enabled() or self.training else max(1, AT_ONCE // rows)
        for first in range(0, len(places), step):
            group = places[first : first + step]
            tiles = torch.cat([padded[:, :, top : top + self.side[0], left : left + self.side[1]] for top, left in group])
            part = self.inner(tiles, torch.cat([known[:, top : top + self.side[0]] for top, _ in group]))
            vectors += self.token(part.pooled).chunk(len(group))
            for canvas, total, level, maps in zip(canvases, totals, levels, part.pyramid, strict=True):
                _blend(canvas, total, level, maps.chunk(len(group)), group, self.overlap)
        tokens = torch.stack(vectors, dim=1)
        present = torch.stack([known[:, top : top + self.side[0]].any(dim=1) for top, _ in places], dim=1)
        tokens = zeroed(tokens, present)
        share = torch.stack([known[:, top : top + self.side[0]].sum(dim=1) for top, _ in places], dim=1).to(tokens)
        pooled = (tokens * share[:, :, None]).sum(dim=1) / share.sum(dim=1, keepdim=True).clamp(min=1)
        pyramid = tuple(
            (canvas / total)[:, :, : level.size((high, wide))[0], : level.size((high, wide))[1]]
            for canvas, total, level in zip(canvases, totals, levels, strict=True)
        )
        grid = (len(origins[0]), len(origins[1]))
        return Encoded(tokens, present, pooled, real.new_ones(rows), grid, pyramid)


def _blend(
    canvas: Tensor,
    total: Tensor,
    level: Level,
    maps: tuple[Tensor, ...],
    places: list[tuple[int, int]],
    overlap: tuple[int, ...],
) -> None:
    """Add the ``maps`` ``[B, C, h, w]`` of tiles at ``places`` (pixels) to ``canvas`` and their weights to ``total``."""
    high, wide = maps[0].shape[2:]
    down, across = (
        _profile(n, shared / stride, total) for n, shared, stride in zip((high, wide), overlap, level.stride, strict=True)
    )
    weight = down[:, None] * across
    for tile, (top, left) in zip(maps, places, strict=True):
        y, x = top // level.stride[0], left // level.stride[1]
        canvas[:, :, y : y + high, x : x + wide] += tile * weight
        total[y : y + high, x : x + wide] += weight


def _profile(count: int, shared: float, like: Tensor) -> Tensor:
    """Weights of the cells along a side of a tile: none in the outer quarter of the overlap, then rising to 1."""
    at = torch.arange(count, device=like.device, dtype=like.dtype) + 0.5
    inwards = torch.minimum(at, count - at)
    return ((inwards - shared / 4) / max(shared / 2, 1e-6)).clamp(FAINT, 1)

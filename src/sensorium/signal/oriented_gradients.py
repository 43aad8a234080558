"""Histograms of oriented gradients (HOG)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_CLIPPED = 0.2


def oriented(picture: Tensor, cells: tuple[int, int], orientations: int = 9) -> Tensor:
    """Gradient histograms by cell and direction: ``[B, orientations, *cells]``.

    Each pixel contributes the gradient of its strongest channel, its magnitude shared between the two nearest directions
    (modulo 180°; the first is along a row) and the nearest cells.
    Source: Dalal and Triggs 2005, https://doi.org/10.1109/CVPR.2005.177.

    Args:
        picture: ``[B, C, H, W]``.
        cells: Rows and columns of cells.
        orientations: Number of directions.
    """
    wide = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    across, down = wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2], wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]
    chosen = (across.square() + down.square()).argmax(dim=1, keepdim=True)
    across, down = across.gather(1, chosen), down.gather(1, chosen)
    length = (across.square() + down.square()).sqrt()
    place = torch.atan2(down, across) / math.pi * orientations  # modulo a full turn
    bins = torch.arange(orientations, device=picture.device).reshape(1, -1, 1, 1)
    gap = (place - bins).remainder(orientations)
    near = (1 - torch.minimum(gap, orientations - gap)).clamp_min(0)
    rows, columns = (_shares(n, size, picture) for n, size in zip(cells, picture.shape[2:], strict=True))
    return rows @ (near * length) @ columns.t()


def blocks(cells: Tensor, floor: float) -> Tensor:
    """Group ``cells`` ``[B, K, h, w]`` into overlapping normalised 2 × 2 blocks ``[B, 4 K, h - 1, w - 1]``.

    Each block has unit length, is clipped at 0.2 and normalised again ("L2-hys"), which removes the effect of illumination.
    Blocks well below ``floor`` stay small. Along an axis of one cell a block is one cell wide.
    """
    high, wide = min(cells.shape[2], 2), min(cells.shape[3], 2)
    rows, columns = cells.shape[2] - high + 1, cells.shape[3] - wide + 1
    together = torch.cat([cells[..., i : i + rows, j : j + columns] for i in range(high) for j in range(wide)], dim=1)
    clipped = _normed(together, floor).clamp_max(_CLIPPED)
    return _normed(clipped, floor)


def _shares(cells: int, size: int, like: Tensor) -> Tensor:
    """Weight of each of ``size`` pixels in each cell, decreasing with the distance to the cell's centre: ``[cells,
    size]``.
    """
    place = (torch.arange(size, device=like.device) + 0.5) * cells / size
    middles = torch.arange(cells, device=like.device) + 0.5
    near = (1 - (place - middles[:, None]).abs()).clamp_min(0).to(like)
    return near * (cells / size)


def _normed(values: Tensor, floor: float) -> Tensor:
    return values / (values.square().sum(dim=1, keepdim=True) + floor**2).sqrt()

"""Edges of pictures: the gradient, ridges thinned to their crests, and skeletons."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SHARP = 0.995
"""The quantile of an image's gradients that counts as the strongest edge."""
TIE = 1e-6
"""Relative difference below which two neighbouring strengths count as equal."""


def gradient_strength(images: Tensor) -> Tensor:
    """Return the magnitude of the Sobel gradient of ``images`` ``[B, C, h, w]``, from 0 to 1, as ``[B, h, w]``.

    The largest of the channels counts, after smoothing with a 3 × 3 binomial filter; 1 is the 99.5 % quantile of an image.
    Source: Sobel and Feldman, 1968.
    """
    channels = images.shape[1]
    row = images.new_tensor([1.0, 2.0, 1.0])
    smooth = (row[:, None] * row / 16)[None, None]
    across = (row[:, None] * images.new_tensor([-1.0, 0.0, 1.0]) / 8)[None, None]
    both = torch.cat([across, across.transpose(2, 3)])
    flat = images.reshape(-1, 1, *images.shape[2:])
    padded = F.pad(flat, (1, 1, 1, 1), mode="replicate")
    blurred = F.pad(F.conv2d(padded, smooth), (1, 1, 1, 1), mode="replicate")
    magnitude = F.conv2d(blurred, both).square().sum(dim=1).sqrt()
    strongest = magnitude.reshape(-1, channels, *images.shape[2:]).amax(dim=1)
    pixels = strongest.flatten(1)
    rank = max(1, round(SHARP * pixels.shape[1]))
    top = pixels.kthvalue(rank, dim=1).values.clamp(min=1e-6)
    return (strongest / top[:, None, None]).clamp(max=1)


def suppressed(strength: Tensor) -> Tensor:
    """Return ``strength`` ``[B, h, w]`` on the crests of its ridges, 0 elsewhere (non-maximum suppression).

    A pixel stays if it is no weaker than the places a pixel away across the ridge, whose direction is that of the strongest
    negative curvature. Source: Canny, https://doi.org/10.1109/TPAMI.1986.4767851; direction by the Hessian matrix, Steger,
    https://doi.org/10.1109/34.659930.
    """
    high, wide = strength.shape[1:]
    row = strength.new_tensor([1.0, 2.0, 3.0, 2.0, 1.0]) / 9
    padded = F.pad(strength[:, None], (2, 2, 2, 2), mode="replicate")
    smooth = F.conv2d(padded, (row[:, None] * row)[None, None])
    dy, dx = _central(smooth, 2), _central(smooth, 3)
    dyy, dxx, dxy = _central(dy, 2), _central(dx, 3), _central(dx, 2)
    angle = (0.5 * torch.atan2(2 * dxy, dxx - dyy) + torch.pi / 2)[:, 0]
    y, x = torch.meshgrid(
        torch.arange(high, device=strength.device), torch.arange(wide, device=strength.device), indexing="ij"
    )
    # A little of the smoothed map decides between equal neighbours.
    ranked = (strength + TIE * smooth[:, 0])[:, None]

    def beside(sign: float) -> Tensor:
        places = torch.stack(
            [2 * (x + 0.5 + sign * angle.cos()) / wide - 1, 2 * (y + 0.5 + sign * angle.sin()) / high - 1], dim=3
        )
        return F.grid_sample(ranked, places.to(ranked), mode="bilinear", padding_mode="border", align_corners=False)[:, 0]

    own = ranked[:, 0]
    return torch.where((own >= beside(1.0)) & (own >= beside(-1.0)), strength, torch.zeros_like(strength))


def _central(maps: Tensor, axis: int) -> Tensor:
    """The central difference of ``maps`` ``[B, 1, h, w]`` along ``axis``; the border is repeated."""
    ends = (0, 0, 1, 1) if axis == 2 else (1, 1, 0, 0)
    padded = F.pad(maps, ends, mode="replicate")
    length = maps.shape[axis]
    return (padded.narrow(axis, 2, length) - padded.narrow(axis, 0, length)) / 2


def skeleton(maps: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return ``maps`` ``[N, h, w]`` thinned to lines one pixel wide, which stay connected.

    Source: Zhang and Suen, https://doi.org/10.1145/357994.358023.
    """
    framed: NDArray[np.bool_] = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    wide = framed.shape[2]
    flat = framed.reshape(-1)
    around = [down * wide + right for down, right in _AROUND]
    at = flat.nonzero()[0]
    while True:
        before = len(at)
        for table in _removable():
            # Neighbours p2 to p9, clockwise from the one above.
            code = np.zeros(len(at), np.uint8)
            for bit, step in enumerate(around):
                code |= flat[at + step].view(np.uint8) << bit
            gone = table[code]
            flat[at[gone]] = False
            at = at[~gone]
        if len(at) == before:
            return framed[:, 1:-1, 1:-1]


_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


@lru_cache(maxsize=1)
def _removable() -> tuple[NDArray[Any], NDArray[Any]]:
    """Which of the 256 neighbourhoods let their pixel go, in the two turns of the algorithm."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    count = bits.sum(axis=1)
    rises = ((bits == 0) & (np.roll(bits, -1, axis=1) == 1)).sum(axis=1)
    up, right, down, left = (bits[:, i] for i in (0, 2, 4, 6))
    both = (count >= 2) & (count <= 6) & (rises == 1)
    return (
        both & (up * right * down == 0) & (right * down * left == 0),
        both & (up * right * left == 0) & (up * down * left == 0),
    )

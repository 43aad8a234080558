"""Edges of pictures: the gradient, and ridges thinned to their crests."""

from __future__ import annotations

import torch
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

"""Delta features: derivatives of features along time."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.errors import ConfigError


def delta(features: Tensor, mask: Tensor | None = None, *, order: int = 1, width: int = 9) -> Tensor:
    """Return the ``order``-th time derivative of features, by a local polynomial fit (Savitzky-Golay).

    The edges use the fit of the outermost full window, as in librosa; a row shorter than ``width`` is continued with its
    last frame. Padding is zero. Source: Savitzky and Golay 1964, https://doi.org/10.1021/ac60214a047.

    Args:
        features: ``[B, frames, F]``.
        mask: Real frames ``[B, frames]``; None: all.
        order: Order of the derivative, and degree of the polynomial.
        width: Frames per fit, odd and at least 3.
    """
    if width < 3 or width % 2 == 0 or not 1 <= order < width:
        raise ConfigError("deltas need an odd width of 3 or more, and an order from 1 to width - 1")
    rows, count, size = features.shape
    half = width // 2
    real = features.new_ones((rows, count), dtype=torch.bool) if mask is None else mask
    length = real.sum(dim=1, keepdim=True)
    place = torch.arange(-half, count + half, device=features.device)
    # Each row is extended with its own first and last real frame, so padding never enters the fit.
    index = torch.minimum(place.clamp_min(0).expand(rows, -1), (length - 1).clamp_min(0))
    wide = features.gather(1, index[..., None].expand(-1, -1, size)).transpose(1, 2).reshape(rows * size, 1, -1)
    slope = F.conv1d(wide, _slope(order, width, features.dtype, features.device)[None, None]).view(rows, size, count)
    last = torch.where(length >= width, length - 1 - half, length - 1).clamp_min(0)
    first = torch.where(length >= width, half, 0)
    middle = torch.minimum(torch.maximum(place[half : half + count].expand(rows, -1), first), last)
    out = slope.transpose(1, 2).gather(1, middle[..., None].expand(-1, -1, size))
    return out.masked_fill(~real[..., None], 0.0)


def with_deltas(features: Tensor, mask: Tensor, orders: int, width: int = 9) -> Tensor:
    """Stack ``features`` and their derivatives as ``[B, 1 + orders, frames, F]``.

    Args:
        features: ``[B, frames, F]``.
        mask: Real frames ``[B, frames]``.
        orders: The number of derivatives.
        width: Frames per polynomial fit.
    """
    return torch.stack([features, *(delta(features, mask, order=n + 1, width=width) for n in range(orders))], dim=1)


@lru_cache(maxsize=16)
def _slope(order: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weights of ``width`` frames that give the ``order``-th derivative of the least-squares polynomial of degree
    ``order``.
    """
    with torch.inference_mode(False):
        place = torch.arange(width, dtype=torch.float64) - width // 2
        powers = torch.stack([place**n for n in range(order + 1)], dim=1)
        weights: Tensor = torch.linalg.pinv(powers)[order] * math.factorial(order)
        return weights.to(device, dtype)

"""Tone and colour transforms of pictures ``[B, C, H, W]`` with values 0 to 1; each row has its own strength ``[B]``.

Factor 1 leaves a picture unchanged, 0 removes the property, 2 doubles it. Results match Pillow's.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)
"""Luminance weights of red, green and blue: ITU-R BT.601."""
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""Rows of the RGB to YIQ matrix (luminance and two chrominance axes): the NTSC standard of 1953."""
_RGB = np.linalg.inv(np.array(_YIQ)).tolist()
_SMOOTH = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))


def grey(x: Tensor) -> Tensor:
    """Return the luminance ``[B, 1, H, W]`` of ``x``."""
    if x.shape[1] != 3:
        return x[:, :1]
    return (x * x.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)


def blend(x: Tensor, plain: Tensor | float, factor: Tensor) -> Tensor:
    """Interpolate from ``plain`` (``factor`` 0) to ``x`` (1), or extrapolate beyond; clamped to 0 to 1."""
    return (plain + factor[:, None, None, None] * (x - plain)).clamp(0, 1)


def brighten(x: Tensor, factor: Tensor) -> Tensor:
    """Scale the brightness of ``x`` by ``factor``."""
    return blend(x, 0.0, factor)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Scale the contrast of ``x`` around its mean luminance by ``factor``."""
    return blend(x, grey(x).mean(dim=(2, 3), keepdim=True), factor)


def saturate(x: Tensor, factor: Tensor) -> Tensor:
    """Scale the saturation of ``x`` by ``factor``."""
    return blend(x, grey(x), factor)


def sharpen(x: Tensor, factor: Tensor) -> Tensor:
    """Sharpen ``x`` (``factor`` above 1) or smooth it (below 1)."""
    channels = x.shape[1]
    kernel = x.new_tensor(_SMOOTH).div_(13).expand(channels, 1, 3, 3)
    smooth = x.clone()
    if min(x.shape[2:]) > 2:  # The border has no neighbours on one side and stays.
        smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel, groups=channels)
    return blend(x, smooth, factor)


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate the hue of ``x`` by ``turn`` of a full circle in YIQ space; luminance is kept where no value is clipped."""
    if x.shape[1] != 3:
        return x
    angle = 2 * math.pi * turn
    zeros, ones = torch.zeros_like(angle), torch.ones_like(angle)
    rows = [ones, zeros, zeros, zeros, angle.cos(), -angle.sin(), zeros, angle.sin(), angle.cos()]
    spin = torch.stack(rows, dim=1).reshape(-1, 3, 3)
    mix = x.new_tensor(_RGB) @ spin @ x.new_tensor(_YIQ)  # [B, 3, 3]
    return (mix @ x.flatten(2)).reshape(x.shape).clamp(0, 1)


def stretch(x: Tensor) -> Tensor:
    """Autocontrast: scale each channel of ``x`` to the range 0 to 1; a constant channel is unchanged."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (x - low) / torch.where(span > 0, span, 1.0), x)


def equalise(x: Tensor) -> Tensor:
    """Equalise the 256-level histogram of each channel of ``x``; a constant channel is unchanged."""
    level = (x * 255).round().long().flatten(2)  # [B, C, H·W]
    count = torch.zeros(*level.shape[:2], 256, dtype=torch.long, device=x.device)
    count.scatter_add_(2, level, torch.ones_like(level))
    last = count.gather(2, level.amax(dim=2, keepdim=True))
    step = (level.shape[2] - last) // 255
    table = (count.cumsum(dim=2) - count + step // 2) // step.clamp(min=1)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device)).clamp(0, 255)
    return table.gather(2, level).reshape(x.shape).to(x.dtype) / 255


def solarise(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values of ``x`` at or above ``threshold``."""
    return torch.where(x < threshold[:, None, None, None], x, 1 - x)


def posterise(x: Tensor, bits: Tensor) -> Tensor:
    """Keep only the highest ``bits`` of the 8 bits of each value of ``x``."""
    step = (2.0 ** (8 - bits))[:, None, None, None]
    return ((x * 255).round() / step).floor() * step / 255

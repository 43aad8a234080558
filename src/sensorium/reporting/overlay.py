"""Attribution maps overlaid on images as small PNGs: orange supports the prediction, blue opposes it."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
FOR, AGAINST = (232, 89, 12), (28, 110, 214)
SIDE = 288  # pixels of the longer side
FAINT = 0.15  # share of the largest value below which nothing is coloured, so that the image is not tinted all over


def rgba(value: float, top: float, faint: float = FAINT) -> str:
    """Return the CSS colour of ``value``; ``top`` has full strength, values below the share ``faint`` of it none."""
    red, green, blue = FOR if value > 0 else AGAINST
    return f"rgba({red},{green},{blue},{strength(np.array(value), top, faint):.2f})"


def strength(values: Values, top: float, faint: float = FAINT) -> Values:
    """Return the opacity of ``values``, 0 to 0.7 at ``top``; 0 below the share ``faint`` of it."""
    size = np.clip(np.abs(values) / (top or 1.0), 0, 1)
    cover: Values = np.where(size < faint, 0.0, 0.7 * size)
    return cover


def painted(grey: Values, heat: Values, top: float) -> Values:
    """Overlay ``heat`` ``[H, W]`` (full strength at ``top``) on ``grey`` ``[H, W]`` from 0 to 1; ``[H, W, 3]`` uint8."""
    # Reduced contrast keeps colours visible on black and on white.
    base = (np.clip(grey, 0, 1) * 0.7 + 0.2)[..., None] * 255
    cover = strength(heat, top)[..., None]
    colour = np.where(heat[..., None] > 0, np.array(FOR), np.array(AGAINST))
    pixels: Values = (base * (1 - cover) + colour * cover).round().astype(np.uint8)
    return pixels


def png(pixels: Values, side: int = SIDE) -> str:
    """Return ``pixels`` ``[H, W, 3]`` uint8 as a PNG ``data:`` URL, scaled so that the longer side has ``side`` pixels."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    by = side / max(picture.size)
    size = (max(1, round(picture.width * by)), max(1, round(picture.height * by)))
    # Small images are enlarged without smoothing, which would suggest detail that the model never saw.
    picture = picture.resize(size, Image.Resampling.NEAREST if by > 1 else Image.Resampling.BILINEAR)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def seen(data: Values, mean: list[float] | None, deviation: list[float] | None) -> Values:
    """Return the luminance ``[H, W]``, 0 to 1, of a prepared image ``data`` ``[C, H, W]``.

    Args:
        data: The standardised image.
        mean: Mean of each channel, to undo the standardisation; None to rescale by minimum and maximum.
        deviation: Standard deviation of each channel.
    """
    if mean is not None and deviation is not None and len(mean) == len(data):
        colours = data * np.array(deviation)[:, None, None] + np.array(mean)[:, None, None]
        share = np.array([0.299, 0.587, 0.114]) if len(data) == 3 else np.full(len(data), 1 / len(data))
        grey: Values = np.tensordot(share, colours, axes=1)
        return np.clip(grey, 0, 1)
    return stretched(data.mean(axis=0))


def stretched(values: Values) -> Values:
    """Rescale ``values`` to 0 to 1 by their minimum and maximum."""
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    scaled: Values = (values - low) / ((high - low) or 1.0)
    return scaled

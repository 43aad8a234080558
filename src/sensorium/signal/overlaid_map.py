"""Maps that lie on an image, such as masks and edge maps: whether they fit, and their frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHAPE = 0.02
"""Largest difference in shape, as a share of the height: another size is a matter of scale, another shape is not."""


def map_misfit(name: str, extent: NDArray[np.float32], on: NDArray[np.float32]) -> str:
    """Return why a map cannot lie on an image, in words; empty if it can.

    Args:
        name: What the map is: ``a mask``.
        extent: Width and height of the map in pixels.
        on: Width and height of the image in pixels.
    """
    (wide, high), (image_wide, image_high) = extent.tolist(), on.tolist()
    if abs(high * image_wide / max(wide, 1) - image_high) <= max(1.0, SHAPE * image_high):
        return ""
    return f"{name} of {wide:.0f} × {high:.0f} pixels does not lie on an image of {image_wide:.0f} × {image_high:.0f}"


def stretched_frames(extent: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Return the frames ``[B, 2, 3]`` from pixels of maps to pixels of the stored ones, which are stretched.

    Args:
        extent: Width and height of each map ``[B, 2]``.
        width: Width of the stored maps.
        height: Height of the stored maps.
    """
    frames = np.zeros((len(extent), 2, 3), np.float32)
    frames[:, 0, 0] = width / np.maximum(extent[:, 0], 1)
    frames[:, 1, 1] = height / np.maximum(extent[:, 1], 1)
    return frames

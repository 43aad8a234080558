"""Images as arrays of a common height, width and number of channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.modality import Array
from sensorium.signal.bit_depth import Scale, column_scale, finite, is_wide, to_uint8
from sensorium.signal.running_moments import Moments

Smooth = Literal["bilinear", "bicubic"]
"""Interpolation for resizing images."""
SMALLEST, LARGEST = 16, 128
"""Bounds of the longer side in pixels, where the data decides the size."""
STRETCH = 1.5
"""Aspect ratios that differ by less than this factor are stretched onto each other."""


def fit_to_frame(
    pixels: Array,
    size: tuple[int, int],
    frame: tuple[int, int],
    fill: Sequence[int],
    *,
    stretch: bool = False,
    smooth: Smooth = "bilinear",
) -> Array:
    """Resize an image to ``frame``, stretched if the aspect ratios are similar, otherwise padded.

    Args:
        pixels: ``[h, w, C]`` uint8.
        size: The original height and width, which decide the aspect ratio.
        frame: The new height and width.
        fill: The padding colour.
        stretch: Whether to stretch whatever the aspect ratio.
        smooth: The interpolation.
    """
    height, width = frame
    inner = frame if stretch else inside(size, frame)
    pixels = _resized(pixels, inner, smooth)
    if inner != (height, width):
        padded = np.empty((height, width, pixels.shape[-1]), np.uint8)
        padded[:] = fill
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        padded[top : top + inner[0], left : left + inner[1]] = pixels
        pixels = padded
    return pixels


def crop_center(pixels: Array, side: int, share: float, smooth: Smooth) -> Array:
    """Resize the shorter side of ``pixels`` to ``side / share`` with ``smooth``; return the central ``side`` × ``side``."""
    size, (top, left) = _crop((pixels.shape[0], pixels.shape[1]), side, share)
    return _resized(pixels, size, smooth)[top : top + side, left : left + side]


def _crop(size: tuple[int, int], side: int, share: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the height and width that ``crop_center`` resizes to, and the first row and column that it keeps."""
    high, wide = size
    shorter = max(side, int(side / share))
    longer = int(shorter * max(high, wide) / min(high, wide))
    resized = (shorter, longer) if high <= wide else (longer, shorter)
    return resized, ((resized[0] - side) // 2, (resized[1] - side) // 2)


def center_crop_to_ratio(pixels: Array, ratio: float) -> Array:
    """Return the largest central crop of ``pixels`` whose width over height is ``ratio``."""
    (high, wide), (top, left) = _middle((pixels.shape[0], pixels.shape[1]), ratio)
    return pixels[top : top + high, left : left + wide]


def _middle(size: tuple[int, int], ratio: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the height and width of that crop, and its first row and column."""
    high, wide = size
    inner_high, inner_wide = min(high, max(1, round(wide / ratio))), min(wide, max(1, round(high * ratio)))
    return (inner_high, inner_wide), ((high - inner_high) // 2, (wide - inner_wide) // 2)


class FrameTransform(NamedTuple):
    """A scaling and translation from an image to its frame: ``scale`` times the original y and x, plus ``shift``."""

    scale: tuple[float, float]
    shift: tuple[float, float]

    def then(self, scale: tuple[float, float], shift: tuple[float, float]) -> FrameTransform:
        """Return this transform followed by another with ``scale`` and ``shift``."""
        return FrameTransform(
            (self.scale[0] * scale[0], self.scale[1] * scale[1]),
            (self.shift[0] * scale[0] + shift[0], self.shift[1] * scale[1] + shift[1]),
        )

    @property
    def matrix(self) -> Array:
        """The affine matrix ``[2, 3]`` from pixels ``(x, y)`` of the original to pixels of the frame."""
        (down, across), (top, left) = self.scale, self.shift
        return np.array([[across, 0.0, left], [0.0, down, top]], dtype=np.float32)


def frame_transform(
    size: tuple[int, int],
    opened: tuple[int, int],
    frame: tuple[int, int],
    *,
    stretch: bool = False,
    share: float | None = None,
    center: bool = False,
) -> FrameTransform:
    """Return the transform from an image to its frame, as the functions above apply it.

    Args:
        size: The original height and width.
        opened: The height and width at which it was decoded.
        frame: The height and width of the frame.
        stretch: As in ``fit_to_frame``.
        share: As in ``crop_center``, which is used if it is given; otherwise ``fit_to_frame``.
        center: Whether ``center_crop_to_ratio`` is applied first.
    """
    place = FrameTransform((opened[0] / size[0], opened[1] / size[1]), (0.0, 0.0))
    if center:
        opened, (top, left) = _middle(opened, frame[1] / frame[0])
        place, size = place.then((1.0, 1.0), (-top, -left)), frame
    if share is not None:
        resized, (top, left) = _crop(opened, frame[0], share)
        return place.then((resized[0] / opened[0], resized[1] / opened[1]), (-top, -left))
    inner = frame if stretch else inside(size, frame)
    top, left = (frame[0] - inner[0]) // 2, (frame[1] - inner[1]) // 2
    return place.then((inner[0] / opened[0], inner[1] / opened[1]), (top, left))


def _resized(pixels: Array, size: tuple[int, int], smooth: Smooth) -> Array:
    from PIL import Image as Pillow

    if pixels.shape[:2] == size:
        return pixels
    resampling = Pillow.Resampling.BICUBIC if smooth == "bicubic" else Pillow.Resampling.BILINEAR
    picture = Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(picture.resize(size[::-1], resampling, reducing_gap=3.0)).reshape(*size, -1)


def frame_state(
    sizes: list[tuple[int, int]], sample: list[Array], side: int | None, channels: str, largest: int = LARGEST
) -> dict[str, Any]:
    """Fit the state of an image column: height, width, channels, mean and deviation of the pixels.

    If some images have more than 8 bits, the state also has the ``scale`` of all of them.

    Args:
        sizes: Original heights and widths.
        sample: Images ``[..., h, w, 1 or 3]``.
        side: The longer side; None: decided by the sizes.
        channels: ``grey``, ``rgb``, or ``auto``: grey if all images are.
        largest: The longest that a longer side decided by the sizes is.
    """
    height, width = usual_frame(sizes, side, largest)
    scale = column_scale(sample)
    if scale is not None:
        sample = [to_uint8(pixels, scale) if is_wide(pixels) else pixels for pixels in sample]
    grey = channels == "grey" or (channels == "auto" and all(map(is_grey, sample)))
    count = 1 if grey else 3
    moments = Moments(count)
    for pixels in sample:
        moments.add(with_channels(pixels, count).reshape(-1, count) / 255)
    mean, deviation = moments.mean, moments.deviation(1e-3)
    extra = {} if scale is None else {"scale": scale}
    return {"height": height, "width": width, "channels": count, "mean": mean, "deviation": deviation, **extra}


def scale_of(state: Mapping[str, Any]) -> Scale | None:
    """Return the scale in the ``state`` of ``frame_state``, or None."""
    scale = state.get("scale")
    return None if scale is None else (scale[0], scale[1])


def inside(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width of an image of ``size`` when it is fitted into ``frame``."""
    (was_high, was_wide), (height, width) = size, frame
    ratio = (was_wide * height) / (was_high * width)
    if max(ratio, 1 / ratio) < STRETCH:
        return height, width
    return (height, max(1, round(width * ratio))) if ratio < 1 else (max(1, round(height / ratio)), width)


def to_pixels(cell: Any, scale: Scale | None = None, *, raw: bool = False) -> Array:
    """Return an array or nested list as pixels ``[H, W, 1 or 3]`` uint8; ``[C, H, W]`` is transposed.

    Args:
        cell: The array or list.
        scale: The values of black and white in arrays of more than 8 bits.
        raw: Whether to keep the values of such arrays.

    Raises:
        CellError: The shape or type is not that of an image.
    """
    try:
        array = np.asarray(cell)
    except (ValueError, TypeError):
        raise CellError(f"a {type(cell).__name__} is not a picture") from None
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4) and min(array.shape[1:]) > 4:
        array = array.transpose(1, 2, 0)  # channels first, as in torch
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape or array.dtype.kind not in "buif":
        raise CellError(
            f"an array of shape {array.shape} and type {array.dtype} is not a picture",
            fix="use [height, width] or [height, width, 1, 3 or 4], or the channels first",
        )
    array = array[..., :3] if array.shape[-1] == 4 else array
    if array.dtype == np.uint8:
        return array
    finite(array)
    if raw and is_wide(array):
        return array
    if scale is not None and is_wide(array):
        return to_uint8(array, scale)
    if array.dtype.kind == "b" or (array.dtype.kind == "f" and array.max() <= 1):
        return (array.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)
    if array.dtype == np.uint16 and array.max() > 255:
        return (array // 257).astype(np.uint8)
    return array.clip(0, 255).round().astype(np.uint8)


def looks_like_image(cell: Any) -> bool:
    """Return whether the array ``cell`` looks like an image: ``[H, W]`` bytes, or 1, 3 or 4 channels last or first.

    Floats outside 0 to 255 are not an image, but positions or motion, for example.
    """
    shape: tuple[int, ...] = getattr(cell, "shape", ())
    kind = getattr(getattr(cell, "dtype", None), "kind", "")
    if len(shape) == 2:
        return kind in "ub" and min(shape) > 4
    if len(shape) != 3 or 0 in shape or not (shape[-1] in (1, 3, 4) or (shape[0] in (1, 3, 4) and min(shape[1:]) > 4)):
        return False
    return kind != "f" or bool(np.nanmin(cell) >= 0 and np.nanmax(cell) <= 255)


def with_channels(pixels: Array, channels: int) -> Array:
    """Convert ``pixels`` to 1 (grey) or 3 (RGB) ``channels``."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    # Luma of ITU-R BT.601, as in JPEG.
    return (pixels @ np.array([0.299, 0.587, 0.114], np.float32)).round().astype(np.uint8)[..., None]


def is_grey(pixels: Array) -> bool:
    """Return whether ``pixels`` are grey."""
    # Grey images saved as colour JPEG have slightly different channels.
    return pixels.shape[-1] == 1 or int((pixels.max(axis=-1) - pixels.min(axis=-1)).max()) <= 3


def usual_frame(sizes: list[tuple[int, int]], side: int | None, largest: int = LARGEST) -> tuple[int, int]:
    """Return the height and width of a frame for images of ``sizes``, with the longer side ``side`` if it is given, else
    that of the usual image, at most ``largest``."""
    if not sizes:
        return (side or 32,) * 2
    if side is None:
        usual = float(np.median([max(size) for size in sizes]))
        side = int(min(max(4 * round(usual / 4), SMALLEST), largest))
    ratio = math.exp(float(np.median([math.log(wide / high) for high, wide in sizes])))
    if max(ratio, 1 / ratio) < STRETCH:
        return side, side
    short = max(4 * round(side / max(ratio, 1 / ratio) / 4), 8)
    return (short, side) if ratio > 1 else (side, short)

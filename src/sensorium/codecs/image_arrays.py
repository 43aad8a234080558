"""Pictures as arrays of one frame: of as many channels, of one height and width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.modality import Array
from sensorium.signal.bit_depth import Scale, column_scale, finite, is_wide, narrowed
from sensorium.signal.running_moments import Moments

Smooth = Literal["bilinear", "bicubic"]
"""How a picture is made smaller."""
SMALLEST, LARGEST = 16, 128
"""Pixels, where the data decides the size."""
STRETCH = 1.5
"""Ratios of width to height that differ by less than this are stretched onto each other."""


def framed(
    pixels: Array,
    size: tuple[int, int],
    frame: tuple[int, int],
    fill: Sequence[int],
    *,
    stretch: bool = False,
    smooth: Smooth = "bilinear",
) -> Array:
    """Pixels ``[h, w, C]`` uint8 of a picture that was ``size`` (height, width), brought to ``frame``.

    Stretched where the ratio is near enough (or ``stretch``), else fitted in and padded with the colour ``fill``.
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


def cropped(pixels: Array, side: int, share: float, smooth: Smooth) -> Array:
    """The middle ``side`` × ``side`` pixels of a picture whose shorter side was brought to ``side / share``."""
    size, (top, left) = _crop((pixels.shape[0], pixels.shape[1]), side, share)
    return _resized(pixels, size, smooth)[top : top + side, left : left + side]


def _crop(size: tuple[int, int], side: int, share: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """To which height and width ``cropped`` brings a picture, and from which row and column on it is kept."""
    high, wide = size
    shorter = max(side, int(side / share))
    longer = int(shorter * max(high, wide) / min(high, wide))
    whole = (shorter, longer) if high <= wide else (longer, shorter)
    return whole, ((whole[0] - side) // 2, (whole[1] - side) // 2)


def middle(pixels: Array, ratio: float) -> Array:
    """The largest middle part whose width over height is ``ratio``."""
    (high, wide), (top, left) = _middle((pixels.shape[0], pixels.shape[1]), ratio)
    return pixels[top : top + high, left : left + wide]


def _middle(size: tuple[int, int], ratio: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of that part, and its first row and column."""
    high, wide = size
    inner_high, inner_wide = min(high, max(1, round(wide / ratio))), min(wide, max(1, round(high * ratio)))
    return (inner_high, inner_wide), ((high - inner_high) // 2, (wide - inner_wide) // 2)


class Place(NamedTuple):
    """Where a picture lies in a frame: y and x of the original times ``scale``, plus ``shift``; both (down, across)."""

    scale: tuple[float, float]
    shift: tuple[float, float]

    def then(self, scale: tuple[float, float], shift: tuple[float, float]) -> Place:
        """Scaled and moved once more."""
        return Place(
            (self.scale[0] * scale[0], self.scale[1] * scale[1]),
            (self.shift[0] * scale[0] + shift[0], self.shift[1] * scale[1] + shift[1]),
        )

    @property
    def matrix(self) -> Array:
        """``[2, 3]``: pixels ``(x, y)`` of the original to pixels of the frame."""
        (down, across), (top, left) = self.scale, self.shift
        return np.array([[across, 0.0, left], [0.0, down, top]], dtype=np.float32)


def place_of(
    size: tuple[int, int],
    opened: tuple[int, int],
    frame: tuple[int, int],
    *,
    stretch: bool = False,
    share: float | None = None,
    center: bool = False,
) -> Place:
    """Where a picture of ``size`` (height, width), opened at the size ``opened``, lies once it is brought to ``frame``.

    By ``middle`` first where ``center``; then by ``cropped`` where there is a ``share``, else by ``framed``.
    """
    place = Place((opened[0] / size[0], opened[1] / size[1]), (0.0, 0.0))
    if center:
        opened, (top, left) = _middle(opened, frame[1] / frame[0])
        place, size = place.then((1.0, 1.0), (-top, -left)), frame
    if share is not None:
        whole, (top, left) = _crop(opened, frame[0], share)
        return place.then((whole[0] / opened[0], whole[1] / opened[1]), (-top, -left))
    inner = frame if stretch else inside(size, frame)
    top, left = (frame[0] - inner[0]) // 2, (frame[1] - inner[1]) // 2
    return place.then((inner[0] / opened[0], inner[1] / opened[1]), (top, left))


def _resized(pixels: Array, size: tuple[int, int], smooth: Smooth) -> Array:
    from PIL import Image as Pillow

    if pixels.shape[:2] == size:
        return pixels
    how = Pillow.Resampling.BICUBIC if smooth == "bicubic" else Pillow.Resampling.BILINEAR
    picture = Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(picture.resize(size[::-1], how, reducing_gap=3.0)).reshape(*size, -1)


def frame_state(sizes: list[tuple[int, int]], sample: list[Array], side: int | None, channels: str) -> dict[str, Any]:
    """What is learnt of pictures ``[..., h, w, 1 or 3]`` and of the sizes they had: height, width, channels, and moments.

    Where some have more than 8 bits, also the ``scale`` of all of them. ``channels``: ``grey``, ``rgb``, or ``auto``, which
    is grey where all of them are.
    """
    height, width = usual_frame(sizes, side)
    scale = column_scale(sample)
    if scale is not None:
        sample = [narrowed(pixels, scale) if is_wide(pixels) else pixels for pixels in sample]
    grey = channels == "grey" or (channels == "auto" and all(map(is_grey, sample)))
    count = 1 if grey else 3
    moments = Moments(count)
    for pixels in sample:
        moments.add(with_channels(pixels, count).reshape(-1, count) / 255)
    mean, deviation = moments.mean, moments.deviation(1e-3)
    told = {} if scale is None else {"scale": scale}
    return {"height": height, "width": width, "channels": count, "mean": mean, "deviation": deviation, **told}


def scale_of(state: Mapping[str, Any]) -> Scale | None:
    """The scale that ``frame_state`` learnt, where it learnt one."""
    scale = state.get("scale")
    return None if scale is None else (scale[0], scale[1])


def inside(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """The height and width in which a picture of ``size`` stands in ``frame``."""
    (was_high, was_wide), (height, width) = size, frame
    ratio = (was_wide * height) / (was_high * width)
    if max(ratio, 1 / ratio) < STRETCH:
        return height, width
    return (height, max(1, round(width * ratio))) if ratio < 1 else (max(1, round(height / ratio)), width)


def to_pixels(cell: Any, scale: Scale | None = None, *, raw: bool = False) -> Array:
    """An array or nested list as ``[H, W, 1 or 3]`` uint8; ``[C, H, W]`` is turned.

    ``scale`` is for what has more than 8 bits; with ``raw`` that comes as it is.
    """
    try:
        array = np.asarray(cell)
    except (ValueError, TypeError):
        raise CellError(f"a {type(cell).__name__} is not a picture") from None
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4) and min(array.shape[1:]) > 4:
        array = array.transpose(1, 2, 0)  # as torch has it
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
        return narrowed(array, scale)
    if array.dtype.kind == "b" or (array.dtype.kind == "f" and array.max() <= 1):
        return (array.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)
    if array.dtype == np.uint16 and array.max() > 255:
        return (array // 257).astype(np.uint8)
    return array.clip(0, 255).round().astype(np.uint8)


def is_pictorial(cell: Any) -> bool:
    """Whether an array looks like a picture: bytes of two axes, or a third of 1, 3 or 4 channels, last or first.

    Fractions beyond 0 to 1 that are no colours from 0 to 255 either are not: positions of joints, motion.
    """
    shape: tuple[int, ...] = getattr(cell, "shape", ())
    kind = getattr(getattr(cell, "dtype", None), "kind", "")
    if len(shape) == 2:
        return kind in "ub" and min(shape) > 4
    if len(shape) != 3 or 0 in shape or not (shape[-1] in (1, 3, 4) or (shape[0] in (1, 3, 4) and min(shape[1:]) > 4)):
        return False
    return kind != "f" or bool(np.nanmin(cell) >= 0 and np.nanmax(cell) <= 255)


def with_channels(pixels: Array, channels: int) -> Array:
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    # Luma of ITU-R BT.601, as JPEG has it.
    return (pixels @ np.array([0.299, 0.587, 0.114], np.float32)).round().astype(np.uint8)[..., None]


def is_grey(pixels: Array) -> bool:
    # Grey pictures saved as coloured JPEG are off by a little.
    return pixels.shape[-1] == 1 or int((pixels.max(axis=-1) - pixels.min(axis=-1)).max()) <= 3


def usual_frame(sizes: list[tuple[int, int]], side: int | None) -> tuple[int, int]:
    """Height and width of the usual picture among ``sizes``."""
    if not sizes:
        return (side or 32,) * 2
    if side is None:
        usual = float(np.median([max(size) for size in sizes]))
        side = int(min(max(4 * round(usual / 4), SMALLEST), LARGEST))
    ratio = math.exp(float(np.median([math.log(wide / high) for high, wide in sizes])))
    if max(ratio, 1 / ratio) < STRETCH:
        return side, side
    short = max(4 * round(side / max(ratio, 1 / ratio) / 4), 8)
    return (short, side) if ratio > 1 else (side, short)

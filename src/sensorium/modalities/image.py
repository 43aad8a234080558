"""Pictures."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.picture import read_picture
from sensorium.signal.statistics import Moments, thinned

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sensorium.core.batch import Field

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*")
_SAMPLE = 512
_SMALLEST, _LARGEST = 16, 128  # pixels, where the data decides the size
_STRENGTHS = {
    "none": (0.0, 0.0, 0.0, 0.0),
    "light": (0.08, 0.1, 10.0, 0.1),
    "strong": (0.15, 0.25, 20.0, 0.25),
    "auto": (0.0, 0.0, 0.0, 0.0),
}
"""Largest shift (of the size), scaling, turn (degrees) and change of brightness (deviations)."""
_STRETCH = 1.5  # ratios of width to height that differ by less than this are stretched onto each other


@component
class Image(Modality):
    """A picture: PNG, JPEG, WebP, BMP, TIFF or GIF (its first frame), or an array ``[H, W]`` or ``[H, W, C]``.

    Encoded as ``[C, H, W]`` uint8, upright (EXIF) and on white where transparent; prepared as float32, standardised by
    channel. Height and width follow the training pictures: a square where they are nearly square, else their usual ratio. A
    picture whose ratio differs by less than half is stretched to it, another is fitted in and padded with the mean colour.

    Args:
        size: The longer side in pixels; None: that of the usual training picture, from 16 to 128.
        channels: ``auto`` is grey where all training pictures are.
        augment: Random shifts, scalings, turns and brightness in training; ``strong`` also erases a box; ``auto`` makes two
            changes drawn from fourteen (RandAugment), of colour too. None of them mirrors: letters have meaning.
        crop: ``center`` cuts the middle out of a picture of another ratio, instead of fitting it in; ``random`` shows a
            random box of each picture in training.
        flip: Mirrors half of the pictures in training.
        rotate: The largest turn in training, in degrees; none: as ``augment`` says.
        colour: How much brightness, contrast, saturation and hue change in training: 0 not at all, 0.4 plainly, at most 1.
    """

    widget = "file:image/*"
    media = True

    def __init__(
        self,
        *,
        size: int | None = None,
        channels: Literal["auto", "grey", "rgb"] = "auto",
        augment: Literal["none", "light", "strong", "auto"] = "light",
        crop: Literal["none", "center", "random"] = "none",
        flip: Literal["none", "horizontal", "vertical", "both"] = "none",
        rotate: float | None = None,
        colour: float = 0.0,
    ) -> None:
        super().__init__()
        if size is not None and not 4 <= size <= 4096:
            raise ConfigError(f"image: a size of {size} pixels is not between 4 and 4096")
        if rotate is not None and not 0 <= rotate <= 180:
            raise ConfigError(f"image: rotate {rotate} is not between 0 and 180 degrees")
        if not 0 <= colour <= 1:
            raise ConfigError(f"image: colour {colour} is not between 0 and 1")
        self.size, self.channels, self.augment = size, channels, augment
        self.crop, self.flip, self.rotate, self.colour = crop, flip, rotate, colour

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        found = Counter(ending for ending in map(_ending, cells) if ending)
        if not found:
            return Guess(0.0, "no cell is a picture")
        count = found.total()
        if set(found) == {"array"}:
            return Guess(0.8 * count / len(cells), f"{count} of {len(cells)} cells are arrays shaped like pictures")
        kinds = " or ".join(kind for kind, _ in found.most_common(3))
        verb = "are" if "bytes" in kinds else "end in"
        return Guess(0.98 * count / len(cells), f"{count} of {len(cells)} cells {verb} {kinds}")

    def fit(self, cells: Iterable[Any]) -> None:
        sizes: list[tuple[int, int]] = []

        def thumbnails() -> Iterable[Array]:
            for cell in cells:
                try:
                    pixels, size = _open(cell, _LARGEST // 2)
                except CellError:
                    continue  # encode meets it again and reports it
                sizes.append(size)
                yield pixels

        sample = thinned(thumbnails(), _SAMPLE)
        height, width = _frame(sizes, self.size)
        grey = self.channels == "grey" or (self.channels == "auto" and all(map(_is_grey, sample)))
        channels = 1 if grey else 3
        moments = Moments(channels)
        for pixels in sample:
            moments.add(_channels(pixels, channels).reshape(-1, channels) / 255)
        self.state = {
            "height": height,
            "width": width,
            "channels": channels,
            "mean": moments.mean,
            "deviation": moments.deviation(1e-3),
        }

    @property
    def layout(self) -> Layout:
        return Grid(self.state["channels"], (self.state["height"], self.state["width"]))

    def encode(self, cell: Any) -> Array:
        from PIL import Image as Pillow

        height, width = self.state["height"], self.state["width"]
        pixels, (was_high, was_wide) = _open(cell, max(height, width))
        pixels = _channels(pixels, self.state["channels"])
        if self.crop == "center":
            pixels = _middle(pixels, width / height)
            was_high, was_wide = height, width
        ratio = (was_wide * height) / (was_high * width)
        if max(ratio, 1 / ratio) < _STRETCH:
            inner = (height, width)
        else:
            inner = (height, max(1, round(width * ratio))) if ratio < 1 else (max(1, round(height / ratio)), width)
        if pixels.shape[:2] != inner:
            picture = Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            small = np.asarray(picture.resize(inner[::-1], Pillow.Resampling.BILINEAR, reducing_gap=3.0))
            pixels = small.reshape(*inner, -1)
        if inner != (height, width):
            padded = np.empty((height, width, pixels.shape[-1]), np.uint8)
            padded[:] = self._fill
            top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
            padded[top : top + inner[0], left : left + inner[1]] = pixels
            pixels = padded
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def blank(self) -> Array:
        return np.zeros((self.state["channels"], self.state["height"], self.state["width"]), dtype=np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Pictures ``[B, C, H, W]`` uint8 as standardised float32; zero where missing."""
        import torch

        mean = torch.tensor(self.state["mean"], device=field.data.device)[:, None, None]
        deviation = torch.tensor(self.state["deviation"], device=field.data.device)[:, None, None]
        data = field.data.float().mul_(1 / 255)
        if generator is not None:
            data = self._recoloured(data, generator)
        data = data.sub_(mean).div_(deviation)
        if generator is not None:
            data = self._moved(data, generator)
        return replace(field, data=data * field.present[:, None, None, None])

    def _recoloured(self, data: Tensor, generator: torch.Generator) -> Tensor:
        """Fractions 0 to 1, changed in training where that is defined on them."""
        if self.augment == "auto":
            from sensorium.signal.policy import random_changes

            data = random_changes(data, generator)
        if self.colour > 0:
            from sensorium.signal.augment import recolour

            data = recolour(data, generator, self.colour)
        return data

    def _moved(self, data: Tensor, generator: torch.Generator) -> Tensor:
        """Standardised pictures, changed in training: a border of zeros is the mean colour."""
        from sensorium.signal import augment

        shift, scale, turn, light = _STRENGTHS[self.augment]
        turn = turn if self.rotate is None else self.rotate
        if shift or scale or turn:
            data = augment.warp(data, generator, shift, scale, turn)
        if light:
            data = augment.jitter(data, generator, light)
        if self.crop == "random":
            data = augment.crop(data, generator)
        for axis, name in ((3, "horizontal"), (2, "vertical")):
            if self.flip in (name, "both"):
                data = augment.flip(data, generator, axis)
        return augment.erase(data, generator) if self.augment in ("strong", "auto") else data

    @property
    def store_options(self) -> dict[str, Any]:
        kept = {key: self.state[key] for key in ("height", "width", "channels")}
        # Only what changes the stored pixels: pictures decoded before this option was known are still good.
        return {**kept, "fill": self._fill, **({"crop": "center"} if self.crop == "center" else {})}

    @property
    def _fill(self) -> list[int]:
        return [round(255 * value) for value in self.state["mean"]]


def _open(cell: Any, side: int) -> tuple[Array, tuple[int, int]]:
    """Pixels ``[H, W, 1 or 3]`` uint8, near ``side`` where that is cheap, and the height and width of the original."""
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        return read_picture(cell, side)
    pixels = _pixels(cell)
    return pixels, (pixels.shape[0], pixels.shape[1])


def _pixels(cell: Any) -> Array:
    """An array or nested list as ``[H, W, 1 or 3]`` uint8."""
    try:
        array = np.asarray(cell)
    except (ValueError, TypeError):
        raise CellError(f"a {type(cell).__name__} is not a picture") from None
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape or array.dtype.kind not in "buif":
        raise CellError(
            f"an array of shape {array.shape} and type {array.dtype} is not a picture",
            fix="use [height, width] or [height, width, 1, 3 or 4], whole numbers 0 to 255 or fractions 0 to 1",
        )
    array = array[..., :3] if array.shape[-1] == 4 else array
    if array.dtype == np.uint8:
        return array
    if not np.isfinite(array).all():
        raise CellError("the picture has pixels that are not finite")
    if array.dtype.kind == "b" or (array.dtype.kind == "f" and array.max() <= 1):
        return (array.astype(np.float32).clip(0, 1) * 255).round().astype(np.uint8)
    if array.dtype == np.uint16 and array.max() > 255:
        return (array // 257).astype(np.uint8)
    return array.clip(0, 255).round().astype(np.uint8)


def _channels(pixels: Array, channels: int) -> Array:
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    # Luma of ITU-R BT.601, as JPEG has it.
    return (pixels @ np.array([0.299, 0.587, 0.114], np.float32)).round().astype(np.uint8)[..., None]


def _middle(pixels: Array, ratio: float) -> Array:
    """The largest middle part whose width over height is ``ratio``."""
    high, wide = pixels.shape[:2]
    inner_high, inner_wide = min(high, max(1, round(wide / ratio))), min(wide, max(1, round(high * ratio)))
    top, left = (high - inner_high) // 2, (wide - inner_wide) // 2
    return pixels[top : top + inner_high, left : left + inner_wide]


def _is_grey(pixels: Array) -> bool:
    # Grey pictures saved as coloured JPEG are off by a little.
    return pixels.shape[-1] == 1 or int((pixels.max(axis=-1) - pixels.min(axis=-1)).max()) <= 3


def _frame(sizes: list[tuple[int, int]], side: int | None) -> tuple[int, int]:
    """Height and width of the usual picture among ``sizes``."""
    if not sizes:
        return (side or 32,) * 2
    if side is None:
        usual = float(np.median([max(size) for size in sizes]))
        side = int(min(max(4 * round(usual / 4), _SMALLEST), _LARGEST))
    ratio = math.exp(float(np.median([math.log(wide / high) for high, wide in sizes])))
    if max(ratio, 1 / ratio) < _STRETCH:
        return side, side
    short = max(4 * round(side / max(ratio, 1 / ratio) / 4), 8)
    return (short, side) if ratio > 1 else (side, short)


def _ending(cell: Any) -> str:
    """What a cell is recognised by as a picture: its ending, the ending of its kind of bytes, or ``array``."""
    if isinstance(cell, (str, os.PathLike)):
        ending = os.path.splitext(str(cell)[-300:].strip().lower())[1]
        return ending if ending in _ENDINGS else ""
    data = cell.data if isinstance(cell, Blob) else cell
    if isinstance(data, bytes):
        known = data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        return "the bytes of pictures" if known else ""
    shape: tuple[int, ...] = getattr(cell, "shape", ())
    kind = getattr(getattr(cell, "dtype", None), "kind", "")
    coloured = len(shape) == 3 and shape[-1] in (1, 3, 4)
    return "array" if coloured or (len(shape) == 2 and kind in "ub" and min(shape) > 4) else ""

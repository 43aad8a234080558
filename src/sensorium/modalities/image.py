"""Images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.dicom import is_dicom
from sensorium.codecs.image import (
    ENDINGS,
    PIXELS,
    decoded_size,
    open_picture,
    open_raw_picture,
    pixel_count,
    size_of_picture,
)
from sensorium.codecs.image_arrays import (
    LARGEST,
    Smooth,
    center_crop_to_ratio,
    crop_center,
    fit_to_frame,
    frame_state,
    frame_transform,
    looks_like_image,
    scale_of,
    with_channels,
)
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.bit_depth import describe_scale
from sensorium.signal.running_moments import subsampled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sensorium.core.batch import Field

_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*")
_SAMPLE = 512


@component
class Image(Modality):
    """An image: PNG, JPEG, WebP, BMP, TIFF, GIF or DICOM (the first frame), or an array ``[H, W]`` or ``[H, W, C]``.

    Encoded as ``[C, H, W]`` uint8, upright (EXIF), transparency on white; prepared as float32, standardised by channel.
    Height and width follow the training images: square if they are nearly square, else their usual aspect ratio. An image
    whose aspect ratio differs by less than half is stretched; another is letterboxed with the mean colour. The black and
    white levels of 16-bit, integer and float images are learned from the training images and are the same for all.

    Args:
        size: Longer side in pixels; None: that of the usual training image, from 16 to ``limit``.
        limit: The longest that a longer side taken from the training images is.
        channels: ``auto`` is grey if all training images are.
        share: Centre crop to a square: the shorter side is scaled to ``size / share`` pixels. None: no crop, unless a
            pretrained encoder requires it.
        stretch: Stretch images of any aspect ratio to a square.
        smooth: Interpolation used to shrink images; ``bicubic`` is sharper.
        mean: Subtracted from each channel (red, green, blue from 0 to 1); None: the mean of the training images.
        deviation: Divides each channel; None: the deviation of the training images.
        augment: Random shift, scale, rotation and brightness in training; ``strong`` also erases a box; ``auto`` applies
            two of the fourteen transforms of RandAugment, some of them of colour. None of them mirrors.
        crop: ``center`` crops images of another aspect ratio instead of letterboxing them; ``random`` uses a random
            resized crop in training.
        flip: Mirrors half of the images in training.
        rotate: Largest rotation in training in degrees; None: as ``augment`` sets it.
        colour: Strength of random changes of brightness, contrast, saturation and hue in training: 0 none, 0.4 clearly
            visible, at most 1.
    """

    widget = "file:image/*"
    media = True
    bounds = {"pixels": PIXELS}
    corruptions = ("noise", "occlusion", "blur", "size")

    def __init__(
        self,
        *,
        size: int | None = None,
        limit: int = LARGEST,
        channels: Literal["auto", "grey", "rgb"] = "auto",
        share: float | None = None,
        stretch: bool = False,
        smooth: Smooth = "bilinear",
        mean: list[float] | None = None,
        deviation: list[float] | None = None,
        # av_digits 0.922 against 0.842 without, signs 0.886 against 0.650 (docs/results.md, "Augmentation").
        augment: Literal["none", "light", "strong", "auto"] = "light",
        crop: Literal["none", "center", "random"] = "none",
        flip: Literal["none", "horizontal", "vertical", "both"] = "none",
        rotate: float | None = None,
        colour: float = 0.0,
    ) -> None:
        super().__init__()
        if size is not None and not 4 <= size <= 4096:
            raise ConfigError(f"image: a size of {size} pixels is not between 4 and 4096")
        if not 16 <= limit <= 4096:
            raise ConfigError(f"image: a limit of {limit} pixels is not between 16 and 4096")
        if share is not None and (not 0.1 <= share <= 1 or stretch):
            raise ConfigError(f"image: share is from 0.1 to 1, not {share}, and does not go with stretch")
        for name, values in (("mean", mean), ("deviation", deviation)):
            if values is not None and (len(values) not in (1, 3) or (name == "deviation" and min(values) <= 0)):
                raise ConfigError(
                    f"image: {name} is 1 or 3 numbers{' above 0' if name == 'deviation' else ''}, not {values}"
                )
        self.share, self.stretch, self.smooth, self.mean, self.deviation = share, stretch, smooth, mean, deviation
        if rotate is not None and not 0 <= rotate <= 180:
            raise ConfigError(f"image: rotate {rotate} is not between 0 and 180 degrees")
        if not 0 <= colour <= 1:
            raise ConfigError(f"image: colour {colour} is not between 0 and 1")
        self.size, self.limit, self.channels, self.augment = size, limit, channels, augment
        self.crop, self.flip, self.rotate, self.colour = crop, flip, rotate, colour

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        endings = Counter(ending for ending in map(_ending, cells) if ending)
        if not endings:
            return Guess(0.0, "no cell is a picture")
        count = endings.total()
        if set(endings) == {"array"}:
            return Guess(0.8 * count / len(cells), f"{count} of {len(cells)} cells are arrays shaped like pictures")
        kinds = " or ".join(kind for kind, _ in endings.most_common(3))
        verb = "are" if "bytes" in kinds else "end in"
        return Guess(0.98 * count / len(cells), f"{count} of {len(cells)} cells {verb} {kinds}")

    def fit(self, cells: Iterable[Any]) -> None:
        sizes: list[tuple[int, int]] = []

        def thumbnails() -> Iterable[Array]:
            for cell in cells:
                try:
                    pixels, size = open_raw_picture(cell, LARGEST // 2)
                except CellError:
                    continue  # reported by encode
                sizes.append(size)
                yield pixels

        sample = subsampled(thumbnails(), _SAMPLE)
        self.state = frame_state(sizes, sample, self.size, self.channels, self.limit)
        if self.share is not None or self.stretch:
            self.state["height"] = self.state["width"] = max(self.state["height"], self.state["width"])
        for name, values in (("mean", self.mean), ("deviation", self.deviation)):
            if values is not None:
                self.state[name] = self._each(name, values, self.state["channels"])

    @staticmethod
    def _each(name: str, values: list[float], channels: int) -> list[float]:
        """Return one value per channel."""
        if len(values) not in (1, channels):
            raise ConfigError(
                f"image: {name} has {len(values)} numbers, the pictures {channels} channel", fix="channels: rgb"
            )
        return [float(value) for value in values] * (channels if len(values) == 1 else 1)

    def notes(self) -> str:
        return describe_scale(self.state.get("scale"))

    @property
    def layout(self) -> Layout:
        return Grid(self.state["channels"], (self.state["height"], self.state["width"]))

    def measure(self, cell: Any) -> dict[str, float]:
        return {"pixels": pixel_count(cell)} if isinstance(cell, Blob) else {}

    def encode(self, cell: Any) -> Array:
        height, width = self.state["height"], self.state["width"]
        pixels, size = open_picture(cell, self._side, scale_of(self.state))
        pixels = with_channels(pixels, self.state["channels"])
        if self.crop == "center":
            pixels, size = center_crop_to_ratio(pixels, width / height), (height, width)
        if self.share is not None:
            pixels = crop_center(pixels, height, self.share, self.smooth)
        else:
            pixels = fit_to_frame(pixels, size, (height, width), self._fill, stretch=self.stretch, smooth=self.smooth)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def extent(self, cell: Any) -> Array | None:
        """Return the width and height of the upright image in pixels."""
        size = size_of_picture(cell)
        return None if size is None else np.array(size[::-1], dtype=np.float32)

    def framing(self, extent: Array) -> Array:
        """Map pixels of the upright image to pixels of the network's grid.

        Off by up to half a pixel if a large JPEG is decoded at a fraction of its size, by one if it is also cropped.
        """
        frame, matrices = (self.state["height"], self.state["width"]), np.empty((len(extent), 2, 3), np.float32)
        cut: dict[str, Any] = {"stretch": self.stretch, "share": self.share, "center": self.crop == "center"}
        known: dict[tuple[int, int], Array] = {}
        for i, (wide, high) in enumerate(extent.astype(int).tolist()):
            size = max(high, 1), max(wide, 1)  # missing rows have arbitrary values
            if size not in known:
                known[size] = frame_transform(size, decoded_size(size, self._side), frame, **cut).matrix
            matrices[i] = known[size]
        return matrices

    @property
    def _side(self) -> int:
        """Longer side at which an image is decoded; smaller would lose detail."""
        return int(max(self.state["height"], self.state["width"]) * (1 if self.share is None else 2))

    def blank(self) -> Array:
        return np.zeros((self.state["channels"], self.state["height"], self.state["width"]), dtype=np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Standardise images ``[B, C, H, W]`` uint8 to float32; zero where missing. A frame follows geometric
        augmentation.
        """
        from sensorium.signal.augmentation import standard
        from sensorium.signal.geometry import apply_moves

        moves: list[Tensor] | None = None if field.frame is None else []
        if generator is not None and (self.augment == "auto" or self.colour):
            fractions = self._recoloured(field.data.float().mul_(1 / 255), generator, moves)
            data = standard(fractions.mul_(255), self.state["mean"], self.state["deviation"])
        else:
            data = standard(field.data, self.state["mean"], self.state["deviation"])
        if generator is not None:
            data = self._moved(data, generator, moves)
        return replace(field, data=data * field.present[:, None, None, None], frame=apply_moves(field.frame, moves))

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        from sensorium.signal.corruption import blurred, noisy_picture, occluded, shrunk

        if how == "noise":
            return noisy_picture(value, level, rng)
        if how == "size":
            return shrunk(value, level)
        return blurred(value, level) if how == "blur" else occluded(value, level, rng, np.array(self._fill, np.uint8))

    def _recoloured(self, data: Tensor, generator: torch.Generator, moves: list[Tensor] | None) -> Tensor:
        """Apply the augmentations defined on values 0 to 1."""
        if self.augment == "auto":
            from sensorium.signal.rand_augment import random_changes

            data = random_changes(data, generator, moves=moves)
        if self.colour > 0:
            from sensorium.signal.augmentation import recolour

            data = recolour(data, generator, self.colour)
        return data

    def _moved(self, data: Tensor, generator: torch.Generator, moves: list[Tensor] | None) -> Tensor:
        """Apply the augmentations of standardised images, where a border of zeros has the mean colour."""
        from sensorium.signal import augmentation

        if self.augment in ("light", "strong"):
            data = augmentation.moved(data, generator, strong=self.augment == "strong", turn=self.rotate, moves=moves)
        elif self.rotate:
            data = augmentation.warp(data, generator, 0.0, 0.0, self.rotate, moves)
        if self.crop == "random":
            data = augmentation.crop(data, generator, moves=moves)
        for axis, name in ((3, "horizontal"), (2, "vertical")):
            if self.flip in (name, "both"):
                data = augmentation.flip(data, generator, axis, moves)
        return augmentation.erase(data, generator) if self.augment == "auto" else data

    @property
    def store_options(self) -> dict[str, Any]:
        kept: dict[str, Any] = {key: self.state[key] for key in ("height", "width", "channels")}
        if "scale" in self.state:  # only for images of more than 8 bits, so that cache keys of others stay the same
            kept["scale"] = self.state["scale"]
        options = {"share": self.share, "stretch": self.stretch, "smooth": self.smooth, "crop": self.crop}
        # Defaults are left out, so that cache keys from before these options stay valid; also a random crop, which happens
        # in training and is not stored.
        plain = {"share": None, "stretch": False, "smooth": "bilinear", "crop": "none"}
        options |= {"crop": "center" if self.crop == "center" else "none"}
        return {**kept, "fill": self._fill, **{key: value for key, value in options.items() if value != plain[key]}}

    @property
    def _fill(self) -> list[int]:
        return [round(255 * value) for value in self.state["mean"]]


def _ending(cell: Any) -> str:
    """Return how a cell is recognised as an image: by its extension, its magic bytes, or as an array; empty if it is
    not.
    """
    if isinstance(cell, (str, os.PathLike)):
        ending = os.path.splitext(str(cell)[-300:].strip().lower())[1]
        return ending if ending in ENDINGS else ""
    data = cell.data if isinstance(cell, Blob) else cell
    if isinstance(data, bytes):
        known = data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or is_dicom(data)
        return "the bytes of pictures" if known else ""
    return "array" if looks_like_image(cell) else ""

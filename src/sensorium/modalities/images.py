"""Several images per cell."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.image import ENDINGS, PIXELS, open_picture, open_raw_picture, pixel_count
from sensorium.codecs.image_arrays import LARGEST, fit_to_frame, frame_state, scale_of, with_channels
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.bit_depth import describe_scale
from sensorium.signal.running_moments import subsampled

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_SAMPLE = 512


@component
class Images(Modality):
    """Several images in one cell: ``a.png;b.png``, or a list of file names, of bytes or of arrays. Their number may vary.

    Encoded as ``[K, C, H, W]`` uint8, upright, transparency on white; prepared as ``[B, C, K, H, W]``, standardised by
    channel, with the mask of real images. Height and width follow the training images. One unreadable image makes the whole
    cell unreadable.

    Args:
        pictures: Maximum number of images per cell; further ones are dropped.
        size: Longer side in pixels; None: that of the usual training image, from 16 to 128.
        channels: ``auto`` is grey if all training images are.
        augment: Random shift, scale, rotation and brightness in training, drawn for each image; ``strong`` also erases a
            box.
    """

    widget = "file:image/*"
    media = True
    several = True
    ragged = True
    bounds = {"pixels": PIXELS}

    def __init__(
        self,
        *,
        pictures: int = 8,
        size: int | None = None,
        channels: Literal["auto", "grey", "rgb"] = "auto",
        # Two pictures of av_digits 0.931 without, 0.908 with light (docs/results.md, "Augmentation").
        augment: Literal["none", "light", "strong"] = "none",
    ) -> None:
        super().__init__()
        if not 1 <= pictures <= 64:
            raise ConfigError(f"images: {pictures} pictures are not between 1 and 64")
        if size is not None and not 4 <= size <= 1024:
            raise ConfigError(f"images: a size of {size} pixels is not between 4 and 1024")
        self.pictures, self.size, self.channels, self.augment = pictures, size, channels, augment

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        counts = [_count(cell) for cell in cells]
        many = sum(count > 1 for count in counts)
        if not many:
            return Guess(0.0, "no cell has several pictures")
        named = sum(count > 0 for count in counts)
        reason = f"{named} of {len(cells)} cells name pictures, {many} of them several"
        # Scores higher than a single image, which would match the last file name.
        return Guess(0.99 * named / len(cells), reason)

    def fit(self, cells: Iterable[Any]) -> None:
        sizes: list[tuple[int, int]] = []

        def thumbnails() -> Iterable[Array]:
            for cell in cells:
                for part in _parts(cell)[: self.pictures]:
                    try:
                        pixels, size = open_raw_picture(part, LARGEST // 2)
                    except CellError:
                        continue  # reported by encode
                    sizes.append(size)
                    yield pixels

        sample = subsampled(thumbnails(), _SAMPLE)
        self.state = frame_state(sizes, sample, self.size, self.channels)

    def notes(self) -> str:
        return describe_scale(self.state.get("scale"))

    @property
    def layout(self) -> Layout:
        return Grid(self.state["channels"], (self.pictures, self.state["height"], self.state["width"]))

    def measure(self, cell: Any) -> dict[str, float]:
        sizes = [pixel_count(part) for part in _parts(cell) if isinstance(part, Blob)]
        return {"pixels": max(sizes)} if sizes else {}

    def encode(self, cell: Any) -> Array:
        frame = (self.state["height"], self.state["width"])
        parts = _parts(cell)[: self.pictures]
        if not parts:
            raise CellError("the cell contains no picture")
        framed = []
        for part in parts:
            pixels, size = open_picture(part, max(frame), scale_of(self.state))
            framed.append(fit_to_frame(with_channels(pixels, self.state["channels"]), size, frame, self._fill))
        return np.ascontiguousarray(np.stack(framed).transpose(0, 3, 1, 2))

    def blank(self) -> Array:
        return np.zeros((0, self.state["channels"], self.state["height"], self.state["width"]), dtype=np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Standardise images ``[B, K, C, H, W]`` uint8 to ``[B, C, K, H, W]``; zero where padded or missing.

        There is no frame: every image would have its own.
        """
        from sensorium.signal.augmentation import moved, standard

        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape[:2])
        data = standard(field.data, self.state["mean"], self.state["deviation"])
        if generator is not None and self.augment != "none":
            data = moved(data.flatten(0, 1), generator, strong=self.augment == "strong").reshape(data.shape)
        data = data * mask[:, :, None, None, None]
        return replace(field, data=data.transpose(1, 2).contiguous(), mask=mask, frame=None)

    @property
    def store_options(self) -> dict[str, Any]:
        kept: dict[str, Any] = {key: self.state[key] for key in ("height", "width", "channels")}
        if "scale" in self.state:  # only for images of more than 8 bits, so that cache keys of others stay the same
            kept["scale"] = self.state["scale"]
        return {**kept, "fill": self._fill, "pictures": self.pictures}

    @property
    def _fill(self) -> list[int]:
        return [round(255 * value) for value in self.state["mean"]]


def _parts(cell: Any) -> list[Any]:
    """Return the opened images of a cell: a list of them, an array ``[K, H, W, C]``, or a single one."""
    if isinstance(cell, np.ndarray) and cell.ndim == 4:
        return list(cell)
    if isinstance(cell, list) and len(cell) == 1 and isinstance(cell[0], np.ndarray) and cell[0].ndim == 4:
        return list(cell[0])
    return list(cell) if isinstance(cell, (list, tuple)) and not isinstance(cell, Blob) else [cell]


def _count(cell: Any) -> int:
    """Return the number of image files that a table cell names; 0 if it names anything else."""
    if isinstance(cell, (str, os.PathLike)):
        text = os.fspath(cell)
        if text.lstrip()[:1] == "[":
            try:
                cell = json.loads(text)
            except (ValueError, RecursionError):
                return 0
        else:
            mark = next((mark for mark in (";", "|", "\n") if mark in text), None)
            cell = [text] if mark is None else [part for part in text.split(mark) if part.strip()]
    if not isinstance(cell, (list, tuple)) or not cell:
        return 0
    names = [part for part in cell if isinstance(part, str) and part[-300:].strip().lower().endswith(ENDINGS)]
    return len(names) if len(names) == len(cell) else 0

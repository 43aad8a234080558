"""Images of a single line of writing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.image import PIXELS, open_picture, pixel_count, size_of_picture
from sensorium.codecs.image_arrays import fit_to_frame, with_channels
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.running_moments import subsampled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sensorium.core.batch import Field

_SAMPLE = 512
_TALLEST = 64  # pixels; the largest height that is chosen automatically
_WIDEST = 4096  # columns


@component
class Line(Modality):
    """An image of one line of writing, print or notes, read from left to right: PNG, JPEG, WebP, BMP, TIFF or an array.

    All lines get the same height; their width follows, so that lines differ in length as recordings do. Never guessed: the
    task ``transcription`` reads images as this kind. Encoded as ``[W, H]`` uint8, grey, column by column; prepared as
    ``[B, 1, W, H]``, standardised, with the mask of real columns.

    Args:
        height: Height in pixels; None: that of the usual training image, from 16 to 64.
        columns: Maximum width at that height, in pixels; None: the 99th percentile of the training images. The rest is
            cut.
        augment: Random shift, size and slant across the line, contrast and hidden columns in training.
        noise: In training, white noise of up to this deviation is added (1: as much as black and white differ).
    """

    widget = "file:image/*"
    media = True
    ragged = True
    bounds = {"pixels": PIXELS}
    corruptions = ("noise", "dropout")

    def __init__(
        self,
        *,
        height: int | None = None,
        columns: int | None = None,
        augment: Literal["none", "light"] = "light",
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        if height is not None and not 4 <= height <= 512:
            raise ConfigError(f"line: a height of {height} pixels is not between 4 and 512")
        if columns is not None and not 4 <= columns <= _WIDEST:
            raise ConfigError(f"line: {columns} columns are not between 4 and {_WIDEST}")
        if not 0 <= noise <= 2:
            raise ConfigError(f"line: noise of {noise} is not between 0 and 2")
        self.height, self.columns, self.augment, self.noise = height, columns, augment, noise

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "taken only where it is named, or by a task that transcribes")

    def fit(self, cells: Iterable[Any]) -> None:
        sizes: list[tuple[int, int]] = []

        def opened() -> Iterable[Array]:
            for cell in cells:
                try:
                    pixels, size = open_picture(cell, _WIDEST)
                except CellError:
                    continue  # reported by encode
                sizes.append(size)
                yield with_channels(pixels, 1)

        sample = subsampled(opened(), _SAMPLE)
        usual = float(np.median([high for high, _ in sizes])) if sizes else 32.0
        height = self.height or round(min(max(usual, 16), _TALLEST))
        widths = [wide * height / high for high, wide in sizes]
        longest = float(np.percentile(widths, 99, method="higher")) if widths else 4.0 * height
        most = self.columns or min(round(longest), _WIDEST)
        # The fraction of the range, with every image counting as its number of pixels.
        count = max(sum(pixels.size for pixels in sample), 1)
        mean = sum(float(pixels.sum(dtype=np.float64)) for pixels in sample) / 255 / count
        square = sum(float((pixels.astype(np.float64) ** 2).sum()) for pixels in sample) / 255**2 / count
        deviation = max(square - mean**2, 1e-4) ** 0.5
        # What surrounds the writing: the usual value at the border.
        edges = [float(np.median(np.concatenate([pixels[0], pixels[-1]]))) for pixels in sample]
        paper = float(np.median(edges)) if edges else 0.0
        self.state = {"height": height, "length": max(most, 4), "mean": mean, "deviation": deviation, "paper": paper}

    @property
    def layout(self) -> Layout:
        return Grid(1, (self.state["length"], self.state["height"]), timed=True)

    @property
    def longest(self) -> int:
        return int(self.state["length"])

    def measure(self, cell: Any) -> dict[str, float]:
        return {"pixels": pixel_count(cell)} if isinstance(cell, Blob) else {}

    def encode(self, cell: Any) -> Array:
        height, most = self.state["height"], self.state["length"]
        pixels, (high, wide) = open_picture(cell, _WIDEST)
        columns = max(1, round(wide * height / high))
        if columns > 8 * _WIDEST:
            raise CellError(f"{wide} × {high} pixels are not a line of writing")
        grey = with_channels(pixels, 1)
        if grey.shape[:2] != (height, columns):
            grey = fit_to_frame(grey, (high, wide), (height, columns), [round(self.state["paper"])], stretch=True)
        return np.ascontiguousarray(grey[:, :most, 0].T)

    def extent(self, cell: Any) -> Array | None:
        """Return the width and height of the image in pixels."""
        size = size_of_picture(cell)
        return None if size is None else np.array(size[::-1], dtype=np.float32)

    def framing(self, extent: Array) -> Array:
        """Map pixels along the line to columns."""
        mapping = np.zeros((len(extent), 1, 2), np.float32)
        wide, high = np.maximum(extent[:, 0], 1), np.maximum(extent[:, 1], 1)
        mapping[:, 0, 0] = np.maximum(np.round(wide * self.state["height"] / high), 1) / wide
        return mapping

    def blank(self) -> Array:
        return np.zeros((0, self.state["height"]), dtype=np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Standardise lines ``[B, W, H]`` uint8 to ``[B, 1, W, H]``; zero where padded or missing."""
        import torch

        from sensorium.signal.augmentation import hide_stretch, jitter, uniform

        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape[:2])
        paper = (self.state["paper"] / 255 - self.state["mean"]) / self.state["deviation"]
        data = (field.data.float() / 255 - self.state["mean"]) / self.state["deviation"]
        if generator is not None and self.augment != "none":
            data = _slanted(data, paper, generator)
            data = jitter(data[:, None], generator, 0.1)[:, 0]
            data = hide_stretch(data - paper, mask, generator, 0.08) + paper
        if generator is not None and self.noise:
            level = uniform((len(data), 1, 1), 0, self.noise, data, generator)
            drawn = torch.randn(data.shape, generator=generator, device=generator.device).to(data)
            # As in a file, nothing is blacker than black or whiter than white.
            noisy = (data * self.state["deviation"] + self.state["mean"] + drawn * level).clamp(0, 1)
            data = (noisy - self.state["mean"]) / self.state["deviation"]
        return replace(field, data=(data * mask[:, :, None])[:, None], mask=mask)

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        from sensorium.signal.corruption import gap, noisy_picture

        if how == "noise":
            return noisy_picture(value, level, rng)
        corrupted = value.copy()
        corrupted[gap(len(value), level, rng)] = round(self.state["paper"])
        return corrupted

    @property
    def store_options(self) -> dict[str, Any]:
        return {"height": self.state["height"], "length": self.state["length"], "paper": round(self.state["paper"])}


def _slanted(lines: Tensor, paper: float, generator: torch.Generator) -> Tensor:
    """Shift, resize and slant ``lines`` ``[B, W, H]`` at random across their direction; what moves in has the value
    ``paper``. Columns stay where they are but for the slant."""
    import torch
    from torch.nn import functional as F

    from sensorium.signal.augmentation import uniform

    rows, width, height = lines.shape
    by, grow, slant = uniform((3, rows), -1, 1, lines, generator)
    zeros, ones = torch.zeros_like(by), torch.ones_like(by)
    # The grid is in half heights (x) and half widths (y) of the transposed picture.
    theta = torch.stack(
        [
            torch.stack([1 + 0.12 * grow, zeros, 0.16 * by], dim=1),
            torch.stack([0.3 * slant * (height / max(width, 1)), ones, zeros], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [rows, 1, width, height], align_corners=False)
    moved: Tensor = F.grid_sample(lines[:, None] - paper, grid, padding_mode="zeros", align_corners=False)[:, 0]
    return moved + paper

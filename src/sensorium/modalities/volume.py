"""Volumetric images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.image_arrays import looks_like_image, scale_of
from sensorium.codecs.volume import ENDINGS, VOXELS, is_nifti, read_volume, voxel_count
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Folder, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.bit_depth import column_scale, describe_scale, finite, is_wide, to_uint8
from sensorium.signal.running_moments import Moments, subsampled

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_SAMPLE = 64
_LEAST, _MOST = 8, 64


@component
class Volume(Modality):
    """A volumetric image, such as CT or MR: NIfTI, a folder of DICOM slices, multi-frame DICOM, NPY, or ``[D, H, W]``.

    Encoded as ``[1, D, H, W]`` uint8, resampled to the usual shape of the training volumes. Black and white levels are
    learned for the whole column, so that Hounsfield units stay comparable. Prepared as ``[B, 1, D, H, W]``, standardised.
    Encoders: ``convnet``, ``patch`` and ``frames`` (slice by slice). Voxel spacing is ignored.

    Args:
        size: Longest side in voxels; None: that of the usual training volume, from 8 to 64.
        low: Value that becomes black; None: learned from the training volumes. For bone in CT, -450.
        high: Value that becomes white; None: learned from the training volumes. For bone in CT, 1050.
        augment: Random shift, scale, rotation and brightness in training, within the plane of the slices and the same for
            all; ``strong`` also erases a box. Never mirrored.
    """

    widget = "file:.nii,.nii.gz,.dcm,.npy"
    media = True
    bounds = {"pixels": VOXELS}

    def __init__(
        self,
        *,
        size: int | None = None,
        low: float | None = None,
        high: float | None = None,
        # Off, since its benefit was not measured (docs/results.md, "Augmentation").
        augment: Literal["none", "light", "strong"] = "none",
    ) -> None:
        super().__init__()
        if size is not None and not 4 <= size <= 256:
            raise ConfigError(f"volume: a size of {size} voxels is not between 4 and 256")
        if low is not None and high is not None and not low < high:
            raise ConfigError(f"volume: low {low} is not below high {high}")
        self.size, self.low, self.high, self.augment = size, low, high, augment

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        formats = Counter(what for what in map(_recognised, cells) if what)
        if not formats:
            return Guess(0.0, "no cell is a volume")
        count = formats.total()
        kinds = " or ".join(kind for kind, _ in formats.most_common(3))
        sure = 0.75 if set(formats) == {"arrays of three axes"} else 0.98
        return Guess(sure * count / len(cells), f"{count} of {len(cells)} cells are {kinds}")

    def fit(self, cells: Iterable[Any]) -> None:
        shapes: list[tuple[int, ...]] = []

        def glances() -> Iterable[Array]:
            for cell in cells:
                try:
                    voxels = finite(read_volume(cell))
                except CellError:
                    continue  # reported by encode
                shapes.append(voxels.shape)
                steps = [slice(None, None, max(1, side // 32)) for side in voxels.shape]
                yield np.array(voxels[tuple(steps)])

        sample = subsampled(glances(), _SAMPLE)
        usual = np.median(shapes, axis=0) if shapes else np.full(3, 16.0)
        longest = self.size or min(max(round(float(usual.max())), _LEAST), _MOST)
        sides = [min(longest, max(4, 4 * round(side * longest / usual.max() / 4))) for side in usual]
        low, high = column_scale(sample) or (0.0, 255.0)
        low, high = (low if self.low is None else self.low), (high if self.high is None else self.high)
        scale = [float(low), float(high if high > low else low + 1)]
        moments = Moments(1)
        for voxels in sample:
            moments.add(_bytes(voxels, (scale[0], scale[1])).reshape(-1, 1) / 255)
        self.state = {"depth": sides[0], "height": sides[1], "width": sides[2], "scale": scale}
        self.state |= {"mean": moments.mean, "deviation": moments.deviation(1e-3)}

    def notes(self) -> str:
        return describe_scale(self.state.get("scale")).replace("pictures of more than 8 bits", "voxels")

    @property
    def layout(self) -> Layout:
        return Grid(1, self._sides)

    def measure(self, cell: Any) -> dict[str, float]:
        count = voxel_count(cell)
        return {"pixels": count} if count else {}

    def encode(self, cell: Any) -> Array:
        voxels = finite(read_volume(cell))
        return _bytes(_resized(voxels, self._sides), scale_of(self.state))[None]

    def blank(self) -> Array:
        return np.zeros((1, *self._sides), dtype=np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Standardise volumes ``[B, 1, D, H, W]`` uint8 to float32; zero where missing."""
        from sensorium.signal.augmentation import moved, standard

        data = standard(field.data, self.state["mean"], self.state["deviation"])
        if generator is not None and self.augment != "none":
            # Slices become channels of one image, so that all are transformed alike.
            data = moved(data.flatten(1, 2), generator, strong=self.augment == "strong").reshape(data.shape)
        return replace(field, data=data * field.present[:, None, None, None, None])

    @property
    def store_options(self) -> dict[str, Any]:
        return {key: self.state[key] for key in ("depth", "height", "width", "scale")}

    @property
    def _sides(self) -> tuple[int, int, int]:
        return self.state["depth"], self.state["height"], self.state["width"]


def _bytes(voxels: Array, scale: tuple[float, float] | None) -> Array:
    """Convert voxels to uint8 by the scale of the column."""
    return to_uint8(voxels.astype(np.float32) if not is_wide(voxels) else voxels, scale or (0.0, 255.0))


def _resized(voxels: Array, sides: tuple[int, int, int]) -> Array:
    """Resample ``[D, H, W]`` to another size as float32: averaging where it shrinks, trilinear where it grows."""
    import torch
    from torch.nn.functional import interpolate

    data = torch.from_numpy(np.ascontiguousarray(voxels, np.float32))[None, None]
    smaller = tuple(min(side, was) for side, was in zip(sides, voxels.shape, strict=True))
    data = interpolate(data, size=smaller, mode="area")
    if smaller != sides:
        data = interpolate(data, size=sides, mode="trilinear", align_corners=False)
    return np.asarray(data[0, 0].numpy())


def _recognised(cell: Any) -> str:
    """Return how a cell is recognised as a volume: by its extension, its magic bytes, or its shape; empty if it is not."""
    if isinstance(cell, (str, os.PathLike)):
        name = str(cell)[-300:].strip().lower()
        return next((f"{ending} files" for ending in reversed(ENDINGS) if name.endswith(ending)), "")
    if isinstance(cell, Folder):
        return "folders of slices"
    data = cell.data if isinstance(cell, Blob) else cell
    if isinstance(data, bytes):
        return "the bytes of volumes" if is_nifti(data) else ""
    shape: tuple[int, ...] = getattr(cell, "shape", ())
    kind = getattr(getattr(cell, "dtype", None), "kind", "")
    is_volume = len(shape) == 3 and min(shape) > 4 and kind in tuple("buif") and not looks_like_image(cell)
    return "arrays of three axes" if is_volume else ""

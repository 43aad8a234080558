"""Point clouds."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.point_cloud import farthest_point_sample, random_indices, read_cloud, to_cloud
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Layout
from sensorium.core.layout import Points as Cloud
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.running_moments import Moments, subsampled

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_ENDINGS = (".ply", ".pcd", ".bin", ".npy")
_NAME = re.compile(r"(?i)point|cloud|lidar|laser|scan|点云|雷达")
_SAMPLE = 256
_MOST = 1024  # largest number of points that is chosen automatically


@component
class Points(Modality):
    """A point cloud: NPY, PLY, PCD (ascii, binary) or BIN (a KITTI scan), or an array ``[N, C]``, coordinates first.

    Encoded as ``[N, C]`` float32: at most ``count`` points, positioned as ``normalise`` says. Prepared as ``[B, N, C]``,
    with the further channels (colour, intensity, normals) standardised and the mask of real points. Points without finite
    coordinates are dropped; a number of channels other than in training raises ``CellError``.

    Args:
        count: Maximum number of points; None: that of the usual training cloud, at most 1024.
        sample: How larger clouds are subsampled: ``farthest`` covers the shape evenly, ``random`` keeps the density.
        normalise: ``sphere`` centres each cloud and scales it to radius 1; ``centre`` only centres it; ``none`` keeps
            positions too (a scan around a car). The last two are scaled by one number learned in training.
        extras: Whether channels beyond the coordinates are used.
        augment: In training, rotation about the third axis, jitter of each point, and random dropping of points;
            ``strong`` also scales the cloud.
    """

    widget = "file:.ply,.pcd,.bin,.npy"
    media = True
    ragged = True

    def __init__(
        self,
        *,
        count: int | None = None,
        sample: Literal["farthest", "random"] = "farthest",
        normalise: Literal["sphere", "centre", "none"] = "sphere",
        extras: bool = True,
        # Off, since its benefit was not measured (docs/results.md, "Augmentation").
        augment: Literal["none", "light", "strong"] = "none",
    ) -> None:
        super().__init__()
        if count is not None and not 1 <= count <= 65_536:
            raise ConfigError(f"points: a count of {count} is not between 1 and 65536")
        self.count, self.sample, self.normalise, self.extras, self.augment = count, sample, normalise, extras, augment

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        formats = Counter(what for what in map(_recognised, cells) if what)
        if not formats:
            return Guess(0.0, "no cell is a cloud of points")
        count = formats.total()
        share = count / len(cells)
        kinds = " or ".join(kind for kind, _ in formats.most_common(3))
        reason = f"{count} of {len(cells)} cells are {kinds}"
        if set(formats) & {".ply", ".pcd", "the bytes of clouds"}:
            return Guess(0.97 * share, reason)
        if ".bin" in formats:
            return Guess(0.9 * share, reason)
        # Arrays [N, C] may also be series: the column name decides.
        named = bool(_NAME.search(name))
        return Guess((0.96 if named else 0.4) * share, f"{reason}, and the column is called {name!r}" if named else reason)

    def fit(self, cells: Iterable[Any]) -> None:
        channels: Counter[int] = Counter()
        counts: list[int] = []

        def opened() -> Iterable[Array]:
            for cell in cells:
                try:
                    points = self._open(cell)
                except CellError:
                    continue  # reported by encode
                channels[points.shape[1]] += 1
                counts.append(len(points))
                yield points[random_indices(len(points), _MOST)] if len(points) > _MOST else points

        sample = subsampled(opened(), _SAMPLE)
        usual = max(channels, key=lambda count: (channels[count], -count)) if channels else 3
        size, rest = Moments(1), Moments(usual - 3)
        for points in sample:
            if points.shape[1] == usual:
                place = points[:, :3] - (points[:, :3].mean(axis=0) if self.normalise == "centre" else 0.0)
                size.add(np.sqrt((place**2).sum(axis=1, keepdims=True)))
                values = points[:, 3:]
                rest.add(values[np.isfinite(values).all(axis=1)])
        self.state = {
            "channels": usual,
            "count": self.count or min(max(1, round(float(np.median(counts)))) if counts else 1, _MOST),
            # The distance within which most points lie: the mean plus two deviations.
            "scale": 1.0 if self.normalise == "sphere" else size.mean[0] + 2 * size.deviation(0.0)[0] or 1.0,
            "mean": rest.mean,
            "deviation": rest.deviation(1e-6),
        }

    @property
    def layout(self) -> Layout:
        return Cloud(self.state["channels"], self.state["count"])

    def encode(self, cell: Any) -> Array:
        points = self._open(cell)
        if points.shape[1] != self.state["channels"]:
            raise CellError(
                f"the points have {points.shape[1]} channels, in training they had {self.state['channels']}",
                file=cell.name if isinstance(cell, Blob) else None,
                fix="give all clouds the same channels, or read positions alone: extras=false",
            )
        count = self.state["count"]
        if len(points) > count:
            if self.sample == "farthest":
                # Sampling from four times as many points bounds the work and is nearly as good.
                points = points[random_indices(len(points), 4 * count)] if len(points) > 4 * count else points
                points = points[farthest_point_sample(points, count)]
            else:
                points = points[random_indices(len(points), count)]
        place = points[:, :3]
        if self.normalise != "none":
            place = place - place.mean(axis=0)
        scale = self.state["scale"]
        if self.normalise == "sphere":
            scale = float(np.sqrt((place**2).sum(axis=1)).max()) or 1.0
        # Far outliers of a scan must not overflow later computations.
        place = (place / scale).clip(-1e3, 1e3)
        values = points[:, 3:]
        values = np.where(np.isfinite(values), values, np.array(self.state["mean"]))
        with np.errstate(over="ignore"):
            return np.concatenate([place, values], axis=1).astype(np.float32).clip(-3e38, 3e38)

    def blank(self) -> Array:
        return np.zeros((0, self.state["channels"]), dtype=np.float32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Standardise the further channels of points ``[B, N, C]``; zero where padded."""
        import torch

        from sensorium.signal.augmentation import uniform

        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape[:2])
        mean = torch.tensor([0.0] * 3 + self.state["mean"], device=field.data.device)
        deviation = torch.tensor([1.0] * 3 + self.state["deviation"], device=field.data.device)
        data = ((field.data - mean) / deviation).clamp(-1e3, 1e3)
        if generator is not None and self.augment != "none":
            rows, points = mask.shape
            strong = self.augment == "strong"
            angle = uniform((rows, 1), -torch.pi, torch.pi, data, generator)
            cos, sin = angle.cos(), angle.sin()
            grow = uniform((rows, 1, 1), 0.8, 1.25, data, generator) if strong else 1.0
            x, y = data[..., 0], data[..., 1]
            place = torch.stack([cos * x - sin * y, sin * x + cos * y, data[..., 2]], dim=-1) * grow
            noise = torch.randn((rows, points, 3), generator=generator, device=generator.device).to(data.device)
            place = place + noise.clamp(-2.5, 2.5) * (0.02 if strong else 0.01)
            data = torch.cat([place, data[..., 3:]], dim=-1)
            chance = uniform((rows, points), 0, 1, data, generator).masked_fill(~mask, 2.0)
            most = uniform((rows, 1), 0, 0.5 if strong else 0.2, data, generator)
            # Never drop a whole cloud: the point with the largest random number stays.
            best = chance.masked_fill(~mask, -1.0).amax(dim=1, keepdim=True)
            mask = mask & ((chance >= most) | (chance == best))
        return replace(field, data=data * mask[..., None], mask=mask)

    @property
    def store_options(self) -> dict[str, Any]:
        kept = {key: self.state[key] for key in ("channels", "count", "scale", "mean")}
        return {**kept, "sample": self.sample, "normalise": self.normalise, "extras": self.extras}

    def _open(self, cell: Any) -> Array:
        """Return the points of a cell ``[N, C]`` float64."""
        if isinstance(cell, bytes):
            cell = Blob(cell, "<bytes>")
        points = read_cloud(cell) if isinstance(cell, Blob) else to_cloud(cell)
        return points if self.extras else points[:, :3]


def _recognised(cell: Any) -> str:
    """Return how a cell is recognised as a point cloud: by its extension, its magic bytes, or as arrays; empty if it is
    not.
    """
    if isinstance(cell, (str, os.PathLike)):
        ending = os.path.splitext(str(cell)[-300:].strip().lower())[1]
        return ending if ending in _ENDINGS else ""
    data = cell.data if isinstance(cell, Blob) else cell
    if isinstance(data, bytes):
        known = data.startswith((b"ply\n", b"ply\r", b"# .PCD", b"VERSION"))
        return "the bytes of clouds" if known else ""
    if isinstance(cell, list):
        cell = np.asarray(cell) if cell and isinstance(cell[0], list) and len({len(row) for row in cell}) == 1 else None
    shape: tuple[int, ...] = getattr(cell, "shape", ())
    kind = getattr(getattr(cell, "dtype", None), "kind", "")
    return "arrays of points" if len(shape) == 2 and 3 <= shape[1] <= 16 < shape[0] and kind in "iuf" else ""

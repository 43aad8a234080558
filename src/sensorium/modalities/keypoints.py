"""Key points: named points on an image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.keypoints import FIX, read_keypoints
from sensorium.core.errors import CellError, ConfigError, listed
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

OUTSIDE = 0.25
"""How far beyond the border of its image a point may lie, as a share of the side: further out, the units are wrong."""
_NAME = re.compile(r"(?i)key.?points?|land.?marks?|joints?|pose|skeleton|(^|[\W_])(points?|kpts?)($|[\W_\d])|关键点")


@component
class Keypoints(Modality):
    """Key points: named places on an image, such as joints, landmarks of a face or body parts of an animal.

    A cell is ``[[x, y], ...]``, ``[[x, y, visible], ...]``, COCO's flat list, or a mapping of name to point, also as JSON
    text. Visible is 0 (not labelled: skipped by loss and scores), 1 (hidden, but labelled) or 2; null is a point that is
    not labelled. Coordinates are pixels of the upright image, x to the right and y down from its left upper corner, or
    shares of its width and height. As a target the points follow their image through resizing and augmentation.
    Encoded as ``[K, 3]`` float32: x, y and visibility, in the units of the table. As an input: standardised
    coordinates, and which points are known.

    Args:
        names: The names of the points, in the order of the lists; None: those of the cells, else their numbers from 0.
        units: ``pixels``, or ``relative``: shares of width and height; ``auto``: relative if all training coordinates lie
            between 0 and 1.
    """

    task = "keypoints"
    lies_on = ("image",)
    checked = True

    def __init__(self, *, names: list[str] | None = None, units: Literal["auto", "pixels", "relative"] = "auto") -> None:
        super().__init__()
        if names is not None and (not names or len(set(names)) < len(names)):
            raise ConfigError(f"keypoints: names are different from each other, and at least one: {names}")
        self.named, self.units = None if names is None else [str(name) for name in names], units

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        counts: Counter[int] = Counter()
        mapped = unseen = 0
        for cell in cells:
            if not isinstance(cell, (str, dict, list, tuple, np.ndarray)):
                continue
            if isinstance(cell, str) and cell.lstrip()[:1] not in ("[", "{"):
                continue
            try:
                names, points = read_keypoints(cell)
            except CellError:
                continue
            counts[len(points)] += 1
            mapped += names is not None
            unseen += bool((points[:, 2] < 2).any())
        if not counts or max(counts) > 256:
            return Guess(0.0, "no cell is a list of key points")
        usual, times = counts.most_common(1)[0]
        share = times / len(cells)
        reason = f"{times} of {len(cells)} cells are {usual} points"
        if _NAME.search(name):
            return Guess(0.92 * share, f"{reason}, and the column is called {name!r}")
        # Lists of pairs under another name are more often short series.
        return Guess((0.9 if mapped + unseen else 0.45) * share, reason)

    def fit(self, cells: Iterable[Any]) -> None:
        names: list[str] = []
        counts: Counter[int] = Counter()
        read: list[tuple[list[str] | None, Array]] = []
        for cell in cells:
            try:
                named, points = read_keypoints(cell)
            except CellError:
                continue  # reported by encode
            if named is None:
                counts[len(points)] += 1
            names += [name for name in named or () if name not in names]
            read.append((named, points))
        usual = max(counts, key=lambda count: (counts[count], -count)) if counts else 1
        if counts.total() > len(read) / 2 or not names:
            names = [str(i) for i in range(usual)]
        self.state = {"names": self.named or names}
        placed = []
        for named, points in read:
            try:
                placed.append(self._placed(named, points))
            except CellError:
                continue  # reported by encode
        every = np.stack(placed).astype(np.float64) if placed else np.zeros((1, len(self.state["names"]), 3))
        known = every[:, :, 2:] > 0
        total = np.maximum(known.sum(axis=0), 1)
        mean = (every[:, :, :2] * known).sum(axis=0) / total
        spread = np.sqrt((np.square(every[:, :, :2] - mean) * known).sum(axis=0) / total)
        shares = bool(known.any()) and bool(every[:, :, :2].min() >= 0 and every[:, :, :2].max() <= 1)
        self.state |= {
            "relative": shares if self.units == "auto" else self.units == "relative",
            "mean": mean.tolist(),
            "deviation": np.maximum(spread, 1e-6).tolist(),
        }

    def notes(self) -> str:
        units = "shares of width and height" if self.relative else "pixels"
        return f"points {listed(self.names)}; coordinates are {units}"

    @property
    def names(self) -> list[str]:
        """The names of the points, in the order in which they are encoded."""
        return list(self.state["names"])

    @property
    def relative(self) -> bool:
        """Whether coordinates are shares of the width and the height of the image, not pixels."""
        return bool(self.state["relative"])

    @property
    def layout(self) -> Layout:
        return Grid(3 * len(self.state["names"]), (1,))

    def _placed(self, named: list[str] | None, points: Array) -> Array:
        """Return the points in the order of ``names``; those that the cell does not name are not labelled."""
        names = self.state["names"]
        if named is None:
            if len(points) != len(names):
                raise CellError(f"has {len(points)} points, but {len(names)} are expected: {listed(names)}", fix=FIX)
            return points
        unknown = [name for name in named if name not in names]
        if unknown:
            raise CellError(f"has an unknown point {unknown[0]!r:.80}; known are: {listed(names)}", fix=FIX)
        placed = np.zeros((len(names), 3), np.float32)
        placed[[names.index(name) for name in named]] = points
        return placed

    def encode(self, cell: Any) -> Array:
        points = self._placed(*read_keypoints(cell))
        known = points[points[:, 2] > 0, :2]
        if self.relative and len(known) and float(np.abs(known - 0.5).max()) > 0.5 + OUTSIDE:
            far = float(known.flat[np.abs(known - 0.5).argmax()])
            raise CellError(f"a coordinate of {far:g} is not a share of the width or height", fix="units: pixels")
        return points

    def extent(self, cell: Any) -> Array | None:
        """Return the box around the labelled points: left, top, right, bottom, in the units of the table."""
        try:
            points = self.encode(cell)
        except CellError:
            return None
        known = points[points[:, 2] > 0, :2]
        if not len(known):
            return None
        return np.concatenate([known.min(axis=0), known.max(axis=0)]).astype(np.float32)

    def misfit(self, extent: Array, on: Array) -> str:
        low, high = extent[:2].tolist(), extent[2:].tolist()
        sides = [1.0, 1.0] if self.relative else np.maximum(on, 1).tolist()
        for end in (low, high):
            if any(not -OUTSIDE * side <= place <= (1 + OUTSIDE) * side for place, side in zip(end, sides, strict=True)):
                wide, tall = np.asarray(on).tolist()
                return (
                    f"a point with x = {end[0]:g} or y = {end[1]:g} lies far outside an image of {wide:.0f} × {tall:.0f} "
                    "pixels; are its coordinates in pixels of this image?"
                )
        return ""

    def framing(self, extent: Array) -> Array:
        """Return identity maps, since points are stored unchanged."""
        return np.tile(np.eye(2, 3, dtype=np.float32), (len(extent), 1, 1))

    def decode(self, value: Array) -> dict[str, dict[str, float] | None]:
        return {
            name: {"x": float(x), "y": float(y), "visible": float(visible)} if visible > 0 else None
            for name, (x, y, visible) in zip(self.names, np.asarray(value), strict=True)
        }

    def blank(self) -> Array:
        return np.zeros((len(self.state["names"]), 3), np.float32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Return standardised coordinates and indicators of the known points, ``[B, 3 K, 1]``: points that are an input."""
        import torch

        mean, deviation = (torch.tensor(self.state[key], device=field.data.device) for key in ("mean", "deviation"))
        known = (field.data[..., 2:] > 0) & field.present[:, None, None]
        places = ((field.data[..., :2] - mean) / deviation).clamp(-10, 10) * known
        return replace(field, data=torch.cat([places, known.float()], dim=2).flatten(1)[..., None])

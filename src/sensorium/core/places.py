"""Positions of an answer on a picture: boxes, regions, lines and points, in pixels of the user's file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorium.core.answer import Attachment


class Point(NamedTuple):
    """A named point.

    Args:
        name: Its name.
        x: Pixels from the left edge.
        y: Pixels from the top edge.
        score: Confidence, 0 to 1.
    """

    name: str
    x: float
    y: float
    score: float


@dataclass(frozen=True, eq=False)
class Place:
    """A labelled position on a picture, given by one of ``box``, ``region`` and ``points``.

    Args:
        label: Its class.
        score: Confidence, 0 to 1; None where the task states none.
        box: Left, top, right and bottom in pixels.
        region: Which pixels it covers ``[H, W]`` bool.
        points: Its points.
        thin: Whether the region is lines one pixel wide, as edges are.
    """

    label: str
    score: float | None = None
    box: tuple[float, float, float, float] | None = None
    region: NDArray[np.bool_] | None = None
    points: Sequence[Point] = ()
    thin: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return its known attributes; the region as an ``Attachment``, white on black."""
        result: dict[str, Any] = {"label": self.label, "thin": self.thin}
        if self.score is not None:
            result["score"] = self.score
        if self.box is not None:
            result["box"] = list(self.box)
        if self.region is not None:
            result["region"] = Attachment(np.where(self.region, 255, 0).astype(np.uint8), "image", note="region")
        if self.points:
            result["points"] = [point._asdict() for point in self.points]
        return result

"""What a report can draw of a task's scores: a small closed set of plain data. The report draws views and knows no task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Cell = str | int | float


@dataclass(frozen=True)
class View:
    """Base of the views.

    Args:
        name: What programs know it by, in ``report.json``: ``confusion``, ``per_class``.
        title: What stands above it on a page.
        note: A sentence under it: how it is to be read.
    """

    name: str
    title: str
    note: str = ""

    def to_json(self) -> Any:
        """As plain data."""
        raise TypeError(f"{type(self).__name__} has no plain form")


@dataclass(frozen=True)
class Table(View):
    """Rows of named cells, the first of each a heading. ``words`` are the columns' names as a page writes them."""

    rows: Sequence[Mapping[str, Cell]] = ()
    words: Mapping[str, str] | None = None
    most: ClassVar[int] = 100
    """Rows a page shows."""

    def to_json(self) -> list[dict[str, Cell]]:
        return [dict(row) for row in self.rows]


@dataclass(frozen=True)
class Matrix(View):
    """Counts of pairs: a row for what is true, a column for what was answered."""

    labels: Sequence[str] = ()
    counts: Sequence[Sequence[int]] = ()
    most: ClassVar[int] = 50
    """Number of labels up to which ``report.json`` includes it."""

    def to_json(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "counts": [list(row) for row in self.counts]}

    def mistaken(self, most: int = 8) -> list[tuple[str, str, int]]:
        """The ``most`` most frequent confusions: true, predicted, count."""
        pairs = [
            (self.labels[i], self.labels[j], count)
            for i, row in enumerate(self.counts)
            for j, count in enumerate(row)
            if i != j and count
        ]
        return sorted(pairs, key=lambda pair: -pair[2])[:most]


@dataclass(frozen=True)
class Curve(View):
    """Points joined by a line, each a mapping; ``x`` and ``y`` say which of its numbers lie along which axis.

    Args:
        size: Which of a point's numbers its dot grows with; none: all alike.
        ideal: A dashed line to compare with: ``diagonal``.
    """

    points: Sequence[Mapping[str, float]] = ()
    x: str = "x"
    y: str = "y"
    size: str | None = None
    ideal: Literal["diagonal"] | None = None

    def to_json(self) -> list[dict[str, float]]:
        return [dict(point) for point in self.points]


@dataclass(frozen=True)
class Lines(View):
    """Several lines over the same axes: by name its points ``(x, y)``, in order of ``x``."""

    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]] = ()
    x: str = "x"
    y: str = "y"

    def to_json(self) -> dict[str, list[list[float]]]:
        return {name: [[x, y] for x, y in points] for name, points in self.lines}


@dataclass(frozen=True)
class Scatter(View):
    """A dot a row: what is true along the one axis, what was answered along the other; equal on the diagonal."""

    true: Sequence[float] = ()
    answered: Sequence[float] = ()
    most: ClassVar[int] = 1000
    """Dots a page shows, and the plain form holds."""

    def to_json(self) -> dict[str, list[float]]:
        step = max(1, -(-len(self.true) // self.most))
        return {"true": list(self.true[::step]), "answered": list(self.answered[::step])}


@dataclass(frozen=True)
class Bars(View):
    """Named values side by side."""

    values: Sequence[tuple[str, float]] = ()

    def to_json(self) -> dict[str, float]:
        return dict(self.values)


@dataclass(frozen=True)
class Picture:
    """One picture of a gallery: ``[H, W]`` or ``[H, W, 3]`` uint8, and a line under it."""

    pixels: NDArray[np.uint8]
    caption: str


@dataclass(frozen=True)
class Gallery(View):
    """Pictures side by side; they are on a page only."""

    pictures: Sequence[Picture] = ()

    def to_json(self) -> list[str]:
        return [picture.caption for picture in self.pictures]


@dataclass(frozen=True)
class Sentence(View):
    """A sentence for the report. Those named ``limits`` appear in the model card."""

    text: str = ""

    def to_json(self) -> str:
        return self.text


LIMITS = "limits"

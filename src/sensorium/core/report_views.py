"""Views: the charts and tables that a task can add to a report, as plain data. Reports draw views and know no task."""

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
        name: Its key in ``report.json``: ``confusion``, ``per_class``.
        title: Its heading on a page.
        note: A sentence below it on how to read it.
    """

    name: str
    title: str
    note: str = ""

    def to_json(self) -> Any:
        """As plain data."""
        raise TypeError(f"{type(self).__name__} has no plain form")


@dataclass(frozen=True)
class Table(View):
    """Rows of named cells, the first of each a row heading. ``words`` are the column headings of a page."""

    rows: Sequence[Mapping[str, Cell]] = ()
    words: Mapping[str, str] | None = None
    most: ClassVar[int] = 100
    """Maximum number of rows on a page."""

    def to_json(self) -> list[dict[str, Cell]]:
        return [dict(row) for row in self.rows]


@dataclass(frozen=True)
class Matrix(View):
    """Counts of pairs: a row for each true value, a column for each answer."""

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
    """Points joined by a line, each a mapping; ``x`` and ``y`` name the values along the axes.

    Args:
        size: The value that sets the size of a point's dot; none: all equal.
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
    """Several named lines over the same axes, each with points ``(x, y)`` in order of ``x``."""

    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]] = ()
    x: str = "x"
    y: str = "y"

    def to_json(self) -> dict[str, list[list[float]]]:
        return {name: [[x, y] for x, y in points] for name, points in self.lines}


@dataclass(frozen=True)
class Scatter(View):
    """One dot per row: the true value along one axis, the answer along the other; equal on the diagonal."""

    true: Sequence[float] = ()
    answered: Sequence[float] = ()
    most: ClassVar[int] = 1000
    """Maximum number of dots on a page and in the plain form."""

    def to_json(self) -> dict[str, list[float]]:
        step = max(1, -(-len(self.true) // self.most))
        return {"true": list(self.true[::step]), "answered": list(self.answered[::step])}


@dataclass(frozen=True)
class Bars(View):
    """Named values as a bar chart."""

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
    """Pictures side by side, on a page only."""

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

"""Key points as plain data: lists, COCO's flat list, a mapping by name, or any of these as JSON text."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.modality import Array, is_blank

MOST = 1024
"""Most points of one cell."""
LONGEST = 1_000_000
"""Most characters of a cell that is text."""
FURTHEST = 1e7
"""Coordinates further out than this are no places of a picture."""
VISIBILITIES = (0.0, 1.0, 2.0)
"""As in COCO: not labelled, labelled and hidden, labelled and visible."""
FIX = "write [[x, y], ...], [[x, y, visible], ...] or {name: [x, y], ...}; visible is 0, 1 or 2"


def read_keypoints(cell: Any) -> tuple[list[str] | None, Array]:
    """Read the points of a ``cell``.

    Args:
        cell: ``[[x, y], ...]``, ``[[x, y, visible], ...]``, COCO's flat ``[x, y, visible, x, ...]``, a mapping of name to
            such a point or to ``{"x": ..., "y": ...}``, or the JSON text of one of these. A point that is null, or without
            a finite coordinate, is not labelled.

    Returns:
        The names, None where the cell has none, and ``[K, 3]`` float32: x, y and the visibility 0, 1 or 2. Points that
        are not labelled are zero.

    Raises:
        CellError: The cell is nothing of the kind.
    """
    if isinstance(cell, str):
        cell = _parsed(cell)
    if isinstance(cell, np.ndarray):
        cell = cell.tolist() if cell.dtype.kind in "fiub" and cell.size <= 3 * MOST else None
    names: list[str] | None = None
    if isinstance(cell, Mapping):
        names, cell = [str(name) for name in cell], list(cell.values())
    if not isinstance(cell, Sequence) or isinstance(cell, (str, bytes)) or not cell:
        raise CellError("is no list of key points", fix=FIX)
    if names is None and all(_is_number(item) for item in cell):
        cell = _unflattened(cell)
    if len(cell) > MOST:
        raise CellError(f"has {len(cell)} points, more than {MOST}", fix="split them into several columns")
    where = names or [str(i) for i in range(len(cell))]
    return names, np.array([_point(point, name) for point, name in zip(cell, where, strict=True)], np.float32)


def usual_shapes(cells: Iterable[Any]) -> list[Array]:
    """Return the points ``[K, 3]`` of those ``cells`` that can be read and have the usual points."""
    read: list[tuple[tuple[str, ...] | int, Array]] = []
    for cell in cells:
        try:
            names, points = read_keypoints(cell)
        except CellError:
            continue  # reported when it is encoded
        read.append((len(points) if names is None else tuple(names), points))
    usual = Counter(which for which, _ in read).most_common(1)
    return [points for which, points in read if which == usual[0][0]]


def _parsed(text: str) -> Any:
    if len(text) > LONGEST:
        raise CellError(f"a text of {len(text):,} characters is no list of key points", fix=FIX)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CellError("is no JSON", fix=FIX) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unflattened(numbers: Sequence[Any]) -> list[Sequence[Any]]:
    """The points of COCO's flat list, in which every third number is a visibility."""
    if len(numbers) % 3 == 0 and all(float(v) in VISIBILITIES for v in numbers[2::3]):
        return [numbers[i : i + 3] for i in range(0, len(numbers), 3)]
    raise CellError(f"{len(numbers)} numbers in a row are no key points: x, y and visible (0, 1 or 2) for each", fix=FIX)


def _point(point: Any, name: str) -> tuple[float, float, float]:
    """One point: x, y and visibility; zeros where it is not labelled."""
    if is_blank(point):
        return (0.0, 0.0, 0.0)
    if isinstance(point, Mapping):
        if not {"x", "y"} <= set(point):
            raise CellError(f"point {name!r:.80} has no x and y", fix=FIX)
        seen = point.get("visible", point.get("v"))
        point = [point["x"], point["y"], *([] if seen is None else [seen])]
    if not isinstance(point, Sequence) or isinstance(point, (str, bytes)) or len(point) not in (2, 3):
        raise CellError(f"point {name!r:.80} is {point!r:.80}", fix=FIX)
    x, y = (_coordinate(value, name) for value in point[:2])
    visible = _coordinate(point[2], name) if len(point) == 3 else 2.0
    if visible not in VISIBILITIES:
        raise CellError(f"point {name!r:.80} has the visibility {point[2]!r:.40}: it is 0, 1 or 2", fix=FIX)
    if visible == 0 or not (math.isfinite(x) and math.isfinite(y)):
        return (0.0, 0.0, 0.0)
    if max(abs(x), abs(y)) > FURTHEST:
        raise CellError(f"point {name!r:.80} lies at ({x:.6g}, {y:.6g}), in no picture", fix=FIX)
    return (x, y, visible)


def _coordinate(value: Any, name: str) -> float:
    """A number, also one that is written as text; NaN where it is missing."""
    if is_blank(value):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise CellError(f"point {name!r:.80}: {value!r:.40} is no number", fix=FIX) from None

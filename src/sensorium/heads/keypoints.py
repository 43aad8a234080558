"""What the task on key points rests on: names of paired columns, places on the prepared image, the way back, and turns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sensorium.core.batch import Field, Tensors
from sensorium.core.errors import ConfigError, listed
from sensorium.core.modality import Array
from sensorium.language.numbers import read_number
from sensorium.signal.geometry import compose, identity, mirrored, points

_PAIRED = re.compile(r"(?i)(.*?)[\W_]*(x|y|v|vis|visible|visibility)")
_SIDES = (("left", "right"), ("links", "rechts"), ("l_", "r_"), ("_l", "_r"))
"""Words in names that mark a point as left or right."""


class PointReader(Protocol):
    """What a task needs of the modality of its points, as ``modalities/keypoints.py`` has it."""

    @property
    def names(self) -> list[str]:
        """The names of the points."""

    @property
    def relative(self) -> bool:
        """Whether coordinates are shares of width and height."""


class PairedColumns(NamedTuple):
    """The columns of one point.

    Args:
        name: Of the point.
        x: The column of its x.
        y: The column of its y.
        visible: The column of its visibility; None: it is visible where x and y are known.
    """

    name: str
    x: str
    y: str
    visible: str | None


def paired_columns(columns: Sequence[str]) -> list[PairedColumns]:
    """Return the points that ``columns`` such as ``nose_x, nose_y, nose_visible`` describe, in order.

    Raises:
        ConfigError: A column is none of those, or its partner is missing.
    """
    parts: dict[str, dict[str, str]] = {}
    for column in columns:
        match = _PAIRED.fullmatch(column)
        if match is None:
            raise ConfigError(
                "is no coordinate of a key point",
                column=column,
                fix="name columns such as nose_x, nose_y, and nose_visible if there is one",
            )
        parts.setdefault(match[1], {})[match[2].lower()[0]] = column
    for name, own in parts.items():
        missing = [axis for axis in "xy" if axis not in own]
        if missing:
            raise ConfigError(f"point {name!r} has no column for its {missing[0]}", column=next(iter(own.values())))
    return [PairedColumns(name, own["x"], own["y"], own.get("v")) for name, own in parts.items()]


def swapped(names: Sequence[str], pairs: Mapping[str, str] | None) -> list[int]:
    """Return, for each point, the index of the point that it becomes in a mirror image.

    Args:
        names: The names of the points.
        pairs: By point on the left, its counterpart on the right; None: those whose names differ only in left and right.
    """
    index = {name: i for i, name in enumerate(names)}
    chosen = _pairs(names) if pairs is None else dict(pairs)
    order = list(range(len(names)))
    for one, other in chosen.items():
        for name in (one, other):
            if name not in index:
                raise ConfigError(f"flip_pairs: no point named {name!r}; there are: {listed(names)}")
        order[index[one]], order[index[other]] = index[other], index[one]
    if any(order[other] != i for i, other in enumerate(order)):
        raise ConfigError(f"flip_pairs: a point is in two pairs: {chosen}", fix="give each point one counterpart")
    return order


def _pairs(names: Sequence[str]) -> dict[str, str]:
    """Names on the left with their counterparts on the right."""
    lower = {name.lower(): name for name in names}
    pairs: dict[str, str] = {}
    for left, right in _SIDES:
        for name in names:
            if left not in name.lower() or name in pairs or name in pairs.values():
                continue
            other = lower.get(name.lower().replace(left, right, 1))
            if other is not None and other != name:
                pairs[name] = other
    return pairs


@dataclass(frozen=True)
class Poses(Tensors):
    """The predicted places of K points: heat maps on the image where there is one, else coordinates by themselves.

    Args:
        maps: Logits of each place of the prepared image ``[B, K, h, w]``.
        axes: Logits of the bins of x, then of y, in the user's units, for rows without an image ``[B, K, 2, bins]``.
        seen: Which rows have an image ``[B]``.
        frame: From the user's units to shares of the width and height of the prepared image ``[B, 2, 3]``.
    """

    maps: Tensor
    axes: Tensor
    seen: Tensor
    frame: Tensor


def to_shares(field: Field | None, size: tuple[int, int] | None, rows: Tensor, *, relative: bool) -> Tensor:
    """Return the frames ``[B, 2, 3]`` from the user's units to shares of the sides of the prepared image.

    Args:
        field: The prepared images; where nothing is known of them, the frame is the identity.
        size: Their height and width.
        rows: Any tensor ``[B, ...]``.
        relative: Whether the user's units are shares of width and height.
    """
    way = identity(len(rows), 2, rows.float())
    if field is None or field.frame is None or field.extent is None or size is None:
        return way
    outer, inner = torch.zeros_like(way), torch.zeros_like(way)
    outer[:, 0, 0], outer[:, 1, 1] = 1 / size[1], 1 / size[0]
    inner[:, 0, 0] = field.extent[:, 0] if relative else 1.0
    inner[:, 1, 1] = field.extent[:, 1] if relative else 1.0
    return compose(compose(outer, field.frame.to(way)), inner)


def on_image(places: Tensor, frames: Tensor, order: Sequence[int]) -> Tensor:
    """Return points of the user as they lie on the prepared image: ``[B, K, 3]`` x, y and visibility.

    Args:
        places: In the user's units ``[B, K, 3]``.
        frames: As ``to_shares`` gives them; in a mirror image left and right points change places.
        order: As ``swapped`` gives it.
    """
    moved = torch.cat([points(frames, places[..., :2]), places[..., 2:]], dim=2)
    return torch.where(mirrored(frames)[:, None, None], moved[:, list(order)], moved)


def turn_spread(shapes: Sequence[Array]) -> float | None:
    """Return how much the orientation of the training shapes varies: the circular deviation in degrees.

    Each shape is turned to fit the mean direction of its pairs of points; the mean resultant length R of these turns gives
    the deviation ``sqrt(-2 ln R)``. Source: Mardia and Jupp, Directional Statistics (2000), section 2.3.

    Args:
        shapes: Points ``[K, 3]`` of each row: x, y and visibility.

    Returns:
        The deviation, at most 180; None where fewer than 8 rows have two points or more.
    """
    whole = [shape for shape in shapes if (shape[:, 2] > 0).sum() >= 2]
    if len(whole) < 8:
        return None
    count = len(whole[0])
    first, second = np.triu_indices(count, 1)
    z = np.stack([shape[:, 0] + 1j * shape[:, 1] for shape in whole]).astype(np.complex128)
    known = np.stack([shape[:, 2] > 0 for shape in whole])
    arrows = (z[:, second] - z[:, first]) * (known[:, first] & known[:, second])
    lengths = np.abs(arrows)
    # Every pair of points is an arrow; the one that is longest relative to its variation tells the orientation.
    units = np.where(lengths > 0, arrows / np.maximum(lengths, 1e-9), 0)
    weight = lengths.sum(axis=0)
    best = int(weight.argmax())
    seen = lengths[:, best] > 0
    if seen.sum() < 8:
        return None
    resultant = float(np.abs(units[seen, best].mean()))
    return float(min(180.0, np.degrees(np.sqrt(-2 * np.log(max(resultant, 1e-9))))))


def paired_shapes(cells: Mapping[str, Sequence[Any]]) -> list[Array]:
    """Return the points ``[K, 3]`` of each row from the ``cells`` of its columns of coordinates, unread.

    Points of which a coordinate cannot be read are zero: not labelled.
    """
    columns = {name: [_number(cell) for cell in column] for name, column in cells.items()}
    together = [
        np.stack([columns[point.x], columns[point.y], np.full(len(columns[point.x]), 2.0)], axis=1)
        for point in paired_columns(list(cells))
    ]
    shapes = np.stack(together, axis=1)
    shapes[~np.isfinite(shapes).all(axis=2)] = 0
    return list(shapes)


def _number(cell: Any) -> float:
    value = cell if isinstance(cell, (int, float)) else read_number(str(cell)) if cell is not None else None
    return float("nan") if value is None else float(value)

"""Regions of a picture as plain JSON: COCO's run lengths and polygons, drawn to an array of class numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.modality import Array

POINTS = 100_000
"""Most corners of one polygon."""
FILLED = 1 << 31
"""Maximum number of pixels of the bounding boxes of all polygons of a mask: some seconds of work."""
CROSSINGS = 1 << 22
"""Most crossings of the sides of one polygon with rows of pixels."""
REGIONS = 10_000
"""Most regions of one mask."""
LONGEST = 1 << 24
"""Longer text is not examined for regions."""
LETTERS = 200
"""Most characters of a label."""
FAR = 1e6
"""Corners further out than this many pixels are moved in."""
UNKNOWN = -1
"""The number of regions to be ignored."""
_FIX = '{"size": [height, width], "regions": [{"class": 1, "counts": [...]}, {"class": 2, "polygons": [[x, y, ...]]}]}'


def draw_regions(cell: Any, most: int, number_of: Callable[[str], int] | None = None) -> Array:
    """Draw a mask from its regions; what no region covers is 0, later regions cover earlier ones.

    Args:
        cell: COCO's run lengths ``{"size": [height, width], "counts": ...}``, which are class 1, or several regions
            ``{"size": [height, width], "regions": [...]}``, each with a ``class`` (a number from 0 to 65535, 1 if left out)
            or a ``label`` (text), and ``counts`` or ``polygons``. One with ``iscrowd`` or ``ignore`` is -1: void.
        most: Most pixels of a mask.
        number_of: The number of a label; None: labels are refused.

    Returns:
        Class numbers ``[H, W]`` int32.

    Raises:
        CellError: The cell does not describe regions.
    """
    high, wide = size_of_regions(cell)
    if high * wide > most:
        problem = f"{wide} × {high} pixels are more than the {most / 2**20:.0f} million allowed"
        raise CellError(problem, fix="reduce its size")
    regions = cell.get("regions", [cell] if "counts" in cell else None)
    if not isinstance(regions, list) or not all(isinstance(region, Mapping) for region in regions):
        raise CellError("a mask as JSON needs its regions", fix=_FIX)
    if len(regions) > REGIONS:
        raise CellError(f"{len(regions):,} regions are more than the {REGIONS:,} allowed")
    mask, filled = np.zeros((high, wide), np.int32), 0
    for place, region in enumerate(regions, 1):
        try:
            number = _number(region, number_of)
            if region is not cell and "size" in region and list(region["size"] or ()) != [high, wide]:
                fix = "write all as [height, width]"
                raise CellError(f"its size is {region['size']}, and that of the mask {[high, wide]}", fix=fix)
            if "counts" in region:
                mask[run_lengths(region["counts"], high, wide)] = number
                continue
            rings = region.get("polygons")
            if not isinstance(rings, list) or not rings:
                raise CellError("it needs counts or polygons", fix=_FIX)
            for corners in [_corners(ring) for ring in rings]:
                filled += _fill(mask, number, corners)
                if filled > FILLED:
                    raise CellError("its polygons lie over too many pixels", fix="write it as run lengths (counts)")
        except CellError as error:
            where = "" if region is cell else f"region {place}: "
            raise CellError(f"{where}{error.problem}", fix=error.fix) from None
    return mask


def size_of_regions(cell: Any) -> tuple[int, int]:
    """Return the height and width of a mask that is written as regions.

    Args:
        cell: As in ``draw_regions``.

    Raises:
        CellError: It has no size.
    """
    if not isinstance(cell, Mapping) or not _is_size(cell.get("size")):
        raise CellError("a mask as JSON needs its size", fix=_FIX)
    high, wide = cell["size"]
    return high, wide


def is_regions(cell: Any) -> bool:
    """Return whether ``cell``, JSON or its text, has the form of regions: a size, and run lengths or a list of regions."""
    if isinstance(cell, str):
        if not cell.lstrip().startswith("{") or len(cell) > LONGEST:
            return False
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return False
    return isinstance(cell, Mapping) and "size" in cell and ("counts" in cell or isinstance(cell.get("regions"), list))


def _number(region: Mapping[str, Any], number_of: Callable[[str], int] | None) -> int:
    """The number of the class of ``region``."""
    if region.get("iscrowd") or region.get("ignore"):
        return UNKNOWN
    if "label" in region:
        label = region["label"]
        if not isinstance(label, str) or not 0 < len(label.strip()) <= LETTERS or number_of is None:
            raise CellError(f"{label!r:.40} is no label", fix="a word: the name of its class")
        return number_of(label.strip())
    number = region.get("class", 1)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 0xFFFF:
        raise CellError(f"the class {number!r:.40} is no number from 0 to 65535", fix=_FIX)
    return number


def run_lengths(counts: Any, high: int, wide: int) -> Array:
    """Expand COCO run lengths, which alternate between outside and inside, down the columns from the left.

    Args:
        counts: The lengths, or COCO's text of them: digits of 5 bits, lowest first, from the third number on the
            difference to the number two before. Source: ``rleToString`` of the COCO API, https://github.com/cocodataset/cocoapi.
        high: Height in pixels.
        wide: Width in pixels.

    Returns:
        Which pixels are inside, ``[H, W]`` bool.

    Raises:
        CellError: The lengths do not add up to the size.
    """
    lengths = _unpacked(counts) if isinstance(counts, str) else counts
    whole = isinstance(lengths, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in lengths)
    if not whole or min(lengths, default=0) < 0 or sum(lengths) != high * wide:
        raise CellError(f"the run lengths do not add up to {high} × {wide} pixels", fix="write size as [height, width]")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(wide, high).T


def packed_run_lengths(inside: Array) -> str:
    """Return the COCO text of the run lengths of a region, as ``run_lengths`` reads it.

    Args:
        inside: Which pixels are inside, ``[H, W]`` bool.
    """
    flat = np.concatenate([[False], np.asarray(inside, np.bool_).T.reshape(-1)])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    lengths = np.diff(np.concatenate([[0], changes, [len(flat) - 1]])).tolist()
    letters: list[str] = []
    for i, length in enumerate(lengths):
        value = length - lengths[i - 2] if i > 2 else length
        while True:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            letters.append(chr(48 + (digit | 32 if more else digit)))
            if not more:
                break
    return "".join(letters)


def _unpacked(text: str) -> list[int]:
    numbers: list[int] = []
    value = shift = 0
    for letter in text:
        digit = ord(letter) - 48
        if not 0 <= digit < 64 or shift > 40:
            raise CellError("the text of its run lengths is damaged")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            if digit & 16:
                value -= 1 << shift
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value = shift = 0
    return numbers


def _corners(ring: Any) -> Array:
    """The corners ``[n, 2]`` of a polygon, x and y in pixels from the upper left corner of the mask."""
    numbers = isinstance(ring, list) and 6 <= len(ring) <= 2 * POINTS and all(_is_number(value) for value in ring)
    if not numbers or len(ring) % 2:
        raise CellError("a polygon is a list x, y, x, y, ... of at least three corners", fix=_FIX)
    return np.clip(np.array(ring, np.float64).reshape(-1, 2), -FAR, FAR)


def _fill(mask: Array, number: int, corners: Array) -> int:
    """Set the pixels of ``mask`` whose middle is inside a polygon to ``number``; return the pixels of its bounding box."""
    high, wide = mask.shape
    # A pixel has its middle at a half; the first row whose middle is not above y is that of the ceiling of y - 0.5.
    top, bottom = (int(np.clip(np.ceil(y - 0.5), 0, high)) for y in (corners[:, 1].min(), corners[:, 1].max()))
    left, right = (int(np.clip(np.ceil(x - 0.5), 0, wide)) for x in (corners[:, 0].min(), corners[:, 0].max()))
    if top >= bottom or left >= right:
        return 0
    following = np.roll(corners, -1, axis=0)
    first, last = (
        np.clip(np.ceil(y - 0.5), top, bottom).astype(np.int64)
        for y in (np.minimum(corners[:, 1], following[:, 1]), np.maximum(corners[:, 1], following[:, 1]))
    )
    spans = last - first
    if int(spans.sum()) > CROSSINGS:
        raise CellError("a polygon goes up and down too often", fix="write it as run lengths (counts)")
    side = np.repeat(np.arange(len(corners)), spans)
    row = np.arange(len(side)) - np.repeat(np.cumsum(spans) - spans, spans) + first[side]
    slope = (following[side, 0] - corners[side, 0]) / (following[side, 1] - corners[side, 1])
    x = corners[side, 0] + (row + 0.5 - corners[side, 1]) * slope
    column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
    crossed = np.zeros((bottom - top, right - left + 1), np.uint8)  # only odd and even matter, which overflow keeps
    np.add.at(crossed, (row - top, column - left), 1)
    inside = np.cumsum(crossed[:, :-1], axis=1, dtype=np.uint8) & 1 == 1
    mask[top:bottom, left:right][inside] = number
    return int(inside.size)


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 1 << 20 for n in size)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

"""Regions of a picture as plain JSON: COCO's run lengths and polygons, drawn to an array of class numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sensorium.core.errors import CellError, nearest
from sensorium.core.modality import Array

POINTS = 100_000
"""Most corners of one polygon."""
REGIONS = 10_000
"""Most regions of one mask."""
CROSSINGS = 1 << 20
"""Most crossings of edges and rows of pixels that are held at a time."""
FAR = 1e6
"""Corners further out than this many pixels are moved in."""
UNKNOWN = 255
"""The number of regions to be ignored."""
_FIX = '{"size": [height, width], "regions": [{"class": 1, "counts": [...]}, {"class": 2, "polygons": [[x, y, ...]]}]}'


def draw_regions(cell: Any, most: int, names: Mapping[str, int] | None = None) -> Array:
    """Draw a mask from its regions; what no region covers is 0, later regions cover earlier ones.

    Args:
        cell: COCO's run lengths ``{"size": [height, width], "counts": ...}``, which are class 1, or several regions
            ``{"size": [height, width], "regions": [...]}``, each with a ``class`` (a number from 0 to 65535 or a
            name, 1 if left out) and ``counts`` or ``polygons``. One with ``iscrowd`` or ``ignore`` is 255, which masks take
            for void.
        most: Most pixels of a mask.
        names: The number of each named class; None: classes are numbers.

    Returns:
        Class numbers ``[H, W]`` int32.

    Raises:
        CellError: The cell does not describe regions.
    """
    if not isinstance(cell, Mapping) or not _is_size(cell.get("size")):
        raise CellError("a mask as JSON needs its size", fix=_FIX)
    high, wide = cell["size"]
    if high * wide > most:
        problem = f"{wide} × {high} pixels are more than the {most / 2**20:.0f} million allowed"
        raise CellError(problem, fix="reduce its size")
    regions = cell.get("regions", [cell] if "counts" in cell else None)
    if not isinstance(regions, list) or len(regions) > REGIONS or not all(isinstance(one, Mapping) for one in regions):
        raise CellError("a mask as JSON needs its regions", fix=_FIX)
    mask = np.zeros((high, wide), np.int32)
    for region in regions:
        ignored = region.get("iscrowd") or region.get("ignore")
        number = UNKNOWN if ignored else _number(region.get("class", 1), names)
        if list(region.get("size", cell["size"])) != list(cell["size"]):
            raise CellError(f"a region of size {region['size']!r:.40} on a mask of size {[high, wide]}", fix=_FIX)
        covered = run_lengths(region["counts"], high, wide) if "counts" in region else _polygons(region, high, wide)
        mask[covered] = number
    return mask


def are_regions(cell: Any) -> bool:
    """Return whether ``cell`` looks like what ``draw_regions`` reads, or like its JSON text, without parsing it."""
    if isinstance(cell, str):
        begins = cell[:1] == "{" and '"size"' in cell
        return begins and ('"counts"' in cell or '"regions"' in cell)
    return isinstance(cell, Mapping) and "size" in cell and ("counts" in cell or "regions" in cell)


def region_classes(cell: Any) -> list[Any]:
    """Return the class of each region of ``cell`` that is not ignored, as written: numbers or names; empty for other
    cells."""
    regions = cell.get("regions") if isinstance(cell, Mapping) else None
    kept = [one for one in regions if isinstance(one, Mapping)] if isinstance(regions, list) else []
    return [one.get("class", 1) for one in kept if not (one.get("iscrowd") or one.get("ignore"))]


def _number(label: Any, names: Mapping[str, int] | None) -> int:
    """The number of the class ``label``, a number or one of ``names``."""
    if isinstance(label, str) and names is not None:
        if label not in names:
            problem = f"the class {label!r:.40} of a region is not known{nearest(label, names)}"
            raise CellError(problem, fix="train with rows that have it, or leave the region out")
        label = names[label]
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label <= 0xFFFF:
        wanted = "no number from 0 to 65535" if names is None else "neither a known name nor a number from 0 to 65535"
        raise CellError(f"the class {label!r:.40} of a region is {wanted}", fix=_FIX)
    return label


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


def _polygons(region: Mapping[str, Any], high: int, wide: int) -> Array:
    rings = region.get("polygons")
    if not isinstance(rings, list) or not rings:
        raise CellError("a region needs counts or polygons", fix=_FIX)
    covered = np.zeros((high, wide), np.bool_)
    for ring in rings:
        numbers = isinstance(ring, list) and 6 <= len(ring) <= 2 * POINTS and all(_is_number(value) for value in ring)
        if not numbers or len(ring) % 2:
            raise CellError("a polygon is a list x, y, x, y, ... of at least three corners", fix=_FIX)
        _fill(covered, np.clip(np.array(ring, np.float64).reshape(-1, 2), -FAR, FAR))
    return covered


def _fill(covered: Array, corners: Array) -> None:
    """Set the pixels of ``covered`` ``[H, W]`` whose middles lie inside the polygon of ``corners`` ``[n, 2]`` (even-odd).

    Pillow's polygons would also cover the pixels that the outline touches, and be a pixel wider than annotated.
    """
    high, wide = covered.shape
    following = np.roll(corners, -1, axis=0)
    # An edge crosses the middle lines of the rows from ``first`` up to, but without, ``last``.
    ends = np.clip(np.ceil(np.stack([corners[:, 1], following[:, 1]]) - 0.5), 0, high).astype(np.int64)
    first, last = ends.min(axis=0), ends.max(axis=0)
    top, bottom = int(first.min()), int(last.max())
    if top >= bottom:
        return
    flips = np.zeros((bottom - top, wide + 1), np.uint8)
    step = max(1, CROSSINGS // (bottom - top))
    for begin in range(0, len(corners), step):
        part = slice(begin, begin + step)
        rows = last[part] - first[part]
        edge = np.repeat(np.arange(begin, begin + len(rows)), rows)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
        (x, y), (to_x, to_y) = corners[edge].T, following[edge].T
        crossing = x + (row + 0.5 - y) * (to_x - x) / (to_y - y)
        column = np.clip(np.ceil(crossing - 0.5), 0, wide).astype(np.int64)
        np.add.at(flips, (row - top, column), 1)  # wraps at 256, which keeps whether the sum is odd
    covered[top:bottom] |= np.cumsum(flips, axis=1, dtype=np.uint8)[:, :wide] % 2 == 1


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 1 << 20 for n in size)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

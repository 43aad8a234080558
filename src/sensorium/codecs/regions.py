"""Regions of a picture as plain JSON: COCO's run lengths and polygons, drawn to an array of class numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.modality import Array

POINTS = 100_000
"""Most corners of one polygon."""
REGIONS = 10_000
"""Most regions of one mask."""
FAR = 1e6
"""Corners further out than this many pixels are moved in."""
UNKNOWN = 255
"""The number of regions to be ignored."""
_FIX = '{"size": [height, width], "regions": [{"class": 1, "counts": [...]}, {"class": 2, "polygons": [[x, y, ...]]}]}'


def draw_regions(cell: Any, most: int) -> Array:
    """Draw a mask from its regions; what no region covers is 0, later regions cover earlier ones.

    Args:
        cell: COCO's run lengths ``{"size": [height, width], "counts": ...}``, which are class 1, or several regions
            ``{"size": [height, width], "regions": [...]}``, each with a ``class`` (a number from 0 to 65535, 1 if left out)
            and ``counts`` or ``polygons``. One with ``iscrowd`` or ``ignore`` is 255, which masks take for void.
        most: Most pixels of a mask.

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
        number = region.get("class", 1)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 0xFFFF:
            raise CellError(f"the class {number!r:.40} of a region is no number from 0 to 65535", fix=_FIX)
        if region.get("iscrowd") or region.get("ignore"):
            number = UNKNOWN
        covered = run_lengths(region["counts"], high, wide) if "counts" in region else _polygons(region, high, wide)
        mask[covered] = number
    return mask


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
    from PIL import Image, ImageDraw

    rings = region.get("polygons")
    if not isinstance(rings, list) or not rings:
        raise CellError("a region needs counts or polygons", fix=_FIX)
    canvas = Image.new("1", (wide, high))
    draw = ImageDraw.Draw(canvas)
    for ring in rings:
        numbers = isinstance(ring, list) and 6 <= len(ring) <= 2 * POINTS and all(_is_number(value) for value in ring)
        if not numbers or len(ring) % 2:
            raise CellError("a polygon is a list x, y, x, y, ... of at least three corners", fix=_FIX)
        # Pillow counts from the middle of a pixel, the corners from its edge.
        corners = np.clip(np.array(ring, np.float64).reshape(-1, 2), -FAR, FAR) - 0.5
        draw.polygon([(float(x), float(y)) for x, y in corners], fill=1)
    return np.array(canvas)


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 1 << 20 for n in size)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

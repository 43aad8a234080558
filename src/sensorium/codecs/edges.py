"""Edge map decoder for untrusted cells: a picture for each annotator, a stack of arrays, or masks with their boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sensorium.codecs.image import PIXELS
from sensorium.codecs.mask import read_mask
from sensorium.codecs.npy import MAGIC, npy_array
from sensorium.codecs.regions import region_classes
from sensorium.core.errors import CellError
from sensorium.core.modality import Array, Blob

ANNOTATORS = 64
"""Most annotators of one cell."""
_FIX = "give a picture of edges for each annotator, or an array [annotators, height, width]"


def read_edges(parts: Any, *, boundaries: bool = False, dark: bool = False) -> Array:
    """Decode the edge maps of one image.

    Args:
        parts: A list of files or arrays, each the map ``[H, W]`` of an annotator or a stack ``[A, H, W]`` of several.
        boundaries: Whether the parts are masks, whose class boundaries are the edges.
        dark: Whether edges are darker than the rest.

    Returns:
        Where each annotator has an edge, ``[A, H, W]`` bool. An edge is a value above half of the largest of its map.

    Raises:
        CellError: The parts are not edge maps, or differ in size.
    """
    if isinstance(parts, (Blob, np.ndarray)):
        parts = [parts]
    if not isinstance(parts, (list, tuple)) or not parts:
        raise CellError("there is no edge map in the cell", fix=_FIX)
    maps: list[Array] = []
    for part in parts:
        for values in _maps_of(part):
            maps.append(mask_boundaries(values) if boundaries else _bright(values, dark))
        if len(maps) > ANNOTATORS:
            raise CellError(f"there are more than {ANNOTATORS} annotators in the cell", fix=_FIX)
    sizes = {edge_map.shape for edge_map in maps}
    if len(sizes) > 1:
        listed = ", ".join(f"{wide} × {high}" for high, wide in sorted(sizes))
        raise CellError(f"the annotators' maps differ in size: {listed} pixels", fix="draw all on the same image")
    return np.stack(maps)


def mask_boundaries(values: Array) -> Array:
    """Return where pixels of a mask ``values`` ``[H, W]`` differ from their right or lower neighbour."""
    edges = np.zeros(values.shape, np.bool_)
    edges[:, :-1] |= values[:, :-1] != values[:, 1:]
    edges[:-1] |= values[:-1] != values[1:]
    return edges


def shrunk(edges: Array, size: tuple[int, int]) -> Array:
    """Return ``edges`` ``[A, H, W]`` resized to ``size``; in a smaller grid, a cell with any edge pixel is an edge."""
    count, high, wide = edges.shape
    if (high, wide) == size:
        return edges
    if high < size[0] or wide < size[1]:  # enlarged: nearest neighbour
        rows, columns = (np.arange(to) * of // to for to, of in zip(size, (high, wide), strict=True))
        edges, (high, wide) = edges[:, rows[:, None], columns], size
    result = np.zeros((count, *size), np.bool_)
    annotator, y, x = edges.nonzero()
    result[annotator, y * size[0] // high, x * size[1] // wide] = True
    return result


def edge_size(parts: Any) -> tuple[int, int] | None:
    """Return the height and width of the first edge map of ``parts``; None if it cannot be read."""
    try:
        first = parts[0] if isinstance(parts, (list, tuple)) else parts
        shape = _maps_of(first)[0].shape
    except (CellError, IndexError, TypeError):  # read_edges reports it
        return None
    return int(shape[0]), int(shape[1])


def _maps_of(part: Any) -> Sequence[Array]:
    """The maps ``[H, W]`` of numbers in one file or array."""
    if isinstance(part, Blob) and part.data.startswith(MAGIC):
        try:
            part_array: Any = npy_array(part.data)
        except CellError as error:
            raise CellError(error.problem, file=part.name, fix=error.fix) from None
    else:
        part_array = part
    if isinstance(part_array, np.ndarray) and part_array.ndim == 3:
        name = part.name if isinstance(part, Blob) else None
        count, high, wide = part_array.shape
        if not 1 <= count <= ANNOTATORS or not 0 < high * wide <= PIXELS // count:
            raise CellError(f"an array {list(part_array.shape)} is not a stack of edge maps", file=name, fix=_FIX)
        return [_numbers(edge_map, name) for edge_map in part_array]
    if isinstance(part_array, np.ndarray):
        return [_numbers(part_array, part.name if isinstance(part, Blob) else None)]
    # Names of regions only tell them apart here.
    names = {label: i for i, label in enumerate(dict.fromkeys(map(str, region_classes(part))), 1)}
    return [read_mask(part, names=names)]


def _numbers(values: Array, name: str | None) -> Array:
    if values.ndim != 2 or not values.size or values.size > PIXELS or values.dtype.kind not in "buif":
        raise CellError(f"an array {list(values.shape)} of {values.dtype} is not an edge map", file=name, fix=_FIX)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise CellError("the edge map has values that are not finite", file=name, fix="save 0 and 1")
    return values


def _bright(values: Array, dark: bool) -> Array:
    """Where ``values`` ``[H, W]`` are above half of their largest; of ``dark`` maps, below."""
    top = float(values.max())
    if top <= 0:
        return np.zeros(values.shape, np.bool_)
    return values <= top / 2 if dark else values > top / 2

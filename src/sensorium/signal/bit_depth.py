"""Conversion of pictures with more than 8 bits to uint8, by one intensity scale per column.

A scale is the value that becomes black and the value that becomes white. It is learned from the training pictures, since
the range of a single picture (its largest value, its number of bits) differs from picture to picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.modality import Array

Scale = tuple[float, float]
TAIL = 0.1
"""Percentage of a picture's pixels ignored at either end, for dead and hot pixels."""
_BLACK = 0.25
_BAND = 2**20


def is_wide(pixels: Array) -> bool:
    """Whether ``pixels`` have a type other than uint8 and bool, and so need a scale."""
    return pixels.dtype != np.uint8 and pixels.dtype.kind != "b"


def column_scale(pictures: Sequence[Array]) -> list[float] | None:
    """Return the scale ``[black, white]`` of ``pictures`` of any type; None if all have 8 bits.

    Fractions from 0 to 1 and integers from 0 to 255 keep that range. Otherwise the range covers all but one in a hundred
    pictures at either end, and black is 0 where the values begin near it.
    """
    values = [part.astype(np.float64) for part in (p[np.isfinite(p)] for p in pictures if is_wide(p)) if part.size]
    if not values:
        return None
    least, most = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    if least >= 0 and most <= 1:
        return [0.0, 1.0]
    mixed = any(not is_wide(picture) for picture in pictures)
    if least >= 0 and most <= 255 and (mixed or all(bool((v == np.round(v)).all()) for v in values)):
        return [0.0, 255.0]
    if mixed and all(p.dtype == np.uint16 for p in pictures if is_wide(p)):
        return [0.0, 65535.0]  # mixed with 8-bit pictures: full ranges must correspond
    lows, highs = zip(*(np.percentile(v, (TAIL, 100 - TAIL)) for v in values), strict=True)
    low, high = float(np.percentile(lows, 1, method="lower")), float(np.percentile(highs, 99, method="higher"))
    if 0 <= low < _BLACK * high:
        low = 0.0
    return [low, high if high > low else low + 1.0]


def to_uint8(values: Array, scale: Scale | Sequence[float]) -> Array:
    """Convert ``values`` of any type to uint8 by a ``scale``: clipped at black and white; NaN becomes black."""
    low, high = scale

    def change(part: Array) -> Array:
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (part.astype(np.float64) - low) * (255 / (high - low))
        return np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255).round().astype(np.uint8)

    return _by_bands(values, change)


def _bands(values: Array) -> list[Array]:
    """Split a large picture into bands of rows: intermediate results take eight times the memory of the values."""
    if values.size <= _BAND or values.ndim == 0:
        return [values]
    step = max(1, _BAND * len(values) // values.size)
    return [values[start : start + step] for start in range(0, len(values), step)]


def _by_bands(values: Array, change: Callable[[Array], Array]) -> Array:
    """Apply an elementwise conversion to uint8, one band of rows at a time."""
    bands = _bands(values)
    if len(bands) == 1:
        return change(values)
    converted, start = np.empty(values.shape, np.uint8), 0
    for band in bands:
        converted[start : start + len(band)] = change(band)
        start += len(band)
    return converted


def alone(values: Array) -> Array:
    """Convert grey ``values`` to uint8 without a learned scale, by their own type and range."""
    if values.dtype.kind == "f":

        def whole(part: Array) -> Array:
            return np.nan_to_num(part, nan=0.0, posinf=255.0, neginf=0.0)

        by = 255 if max(whole(band).max(initial=0) for band in _bands(values)) <= 1 else 1
        return _by_bands(values, lambda part: (whole(part) * by).clip(0, 255).round().astype(np.uint8))
    # Pillow opens 16-bit files in several modes; only one with a value beyond 16 bits has 32.
    top = int(values.max(initial=0))
    shift = 65535 if top <= 65535 else 2**31 - 1
    return _by_bands(values, lambda part: (part.clip(0).astype(np.float64) * (255 / shift)).round().astype(np.uint8))


def thinned_pixels(values: Array, side: int) -> Array:
    """Subsample the pixels of ``values`` ``[H, W, ...]`` evenly, to at most ``side`` rows and columns."""
    step = max(1, -(-max(values.shape[:2]) // side))
    return values[::step, ::step]


def describe_scale(scale: Sequence[float] | None) -> str:
    """Describe a learned ``scale`` for the user; empty where it is the usual one."""
    if scale is None or list(scale) in ([0.0, 1.0], [0.0, 255.0]):
        return ""
    return f"pictures of more than 8 bits: {scale[0]:g} is black in all of them, {scale[1]:g} is white"


def finite(values: Array) -> Array:
    """Return ``values`` unchanged; raise ``CellError`` where any is not finite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise CellError("the picture has pixels that are not finite")
    return values

"""Alignment of streams with different rates and clocks to one time grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from sensorium.core.errors import DataError
from sensorium.core.modality import Array

How = Literal["line", "hold", "nearest"]


class Aligned(NamedTuple):
    """Streams on one grid: ``times`` ``[N]``, and by stream ``values`` ``[N, C]``, 0 where ``masks`` ``[N, C]`` are
    False.
    """

    times: Array
    values: dict[str, Array]
    masks: dict[str, Array]


def align(
    streams: Mapping[str, tuple[Array, Array]],
    rate: float,
    how: How = "line",
    *,
    span: Literal["union", "overlap"] = "union",
    reach: float | None = None,
) -> Aligned:
    """Resample streams to the shared time grid ``start + n / rate``.

    Args:
        streams: ``(times [T], values [T] or [T, C])`` by name; times in seconds in any order, values NaN where missing.
        rate: Grid points per second.
        how: Interpolation, see ``on_grid``.
        span: ``union`` covers the first to the last reading of any stream, ``overlap`` only the time all streams cover.
        reach: See ``on_grid``.
    """
    if not rate > 0:
        raise DataError(f"a grid of {rate} moments a second is none", fix="a rate is above 0")
    ordered = {name: _ordered(times, values, name) for name, (times, values) in streams.items()}
    starts, ends = [t[0] for t, _ in ordered.values()], [t[-1] for t, _ in ordered.values()]
    start, end = (min(starts), max(ends)) if span == "union" else (max(starts), min(ends))
    if end < start:
        raise DataError("the streams do not overlap: at no time do all of them run", fix="use span='union'")
    # The tolerance keeps the last grid point despite rounding.
    grid = start + np.arange(int(np.floor((end - start) * rate + 1e-6)) + 1) / rate
    put = {name: on_grid(times, values, grid, how, reach=reach) for name, (times, values) in ordered.items()}
    return Aligned(grid, {n: v for n, (v, _) in put.items()}, {n: m for n, (_, m) in put.items()})


def on_grid(
    times: Array, values: Array, grid: Array, how: How = "line", *, reach: float | None = None
) -> tuple[Array, Array]:
    """Interpolate readings to a time grid: ``[N, C]`` float64 and the mask of known values ``[N, C]``.

    Values before a channel's first and after its last reading are unknown. Unknown values are 0.

    Args:
        times: Time of each reading ``[T]``, in any order; of two at the same time the later in the list is used.
        values: Readings ``[T]`` or ``[T, C]``; NaN: missing.
        grid: Grid times ``[N]`` in ascending order.
        how: ``line``: linear interpolation; ``hold``: the last reading before; ``nearest``: the nearest reading.
        reach: Largest distance in seconds to the readings used; beyond it a value is unknown. None: any.
    """
    times, values = _ordered(times, values, "the stream")
    out = np.zeros((len(grid), values.shape[1]))
    known = np.zeros(out.shape, dtype=np.bool_)
    slack = 1e-9 * max(1.0, float(np.abs(times).max(initial=0.0)))  # tolerance for clocks accumulated in floating point
    for channel in range(values.shape[1]):
        real = np.isfinite(values[:, channel])
        at, reading = times[real], values[real, channel]
        if not len(at):
            continue
        right = np.searchsorted(at, grid - slack).clip(0, len(at) - 1)
        exact = np.abs(at[right] - grid) <= slack
        left = np.where(exact, right, (right - (at[right] > grid)).clip(0))
        before, after = grid - at[left], at[right] - grid
        inside = (grid >= at[0] - slack) & (grid <= at[-1] + slack)
        if how == "line":
            value, far = np.interp(grid, at, reading), np.maximum(before, after)
        elif how == "hold":
            value, far = reading[left], before
        else:
            value, far = reading[np.where(before <= after, left, right)], np.minimum(before, after)
        known[:, channel] = inside if reach is None else inside & (far <= reach + slack)
        out[:, channel] = np.where(known[:, channel], value, 0.0)
    return out, known


def _ordered(times: Array, values: Array, name: str) -> tuple[Array, Array]:
    """Return times ``[T]`` and values ``[T, C]`` float64 sorted by time, without duplicate times."""
    times = np.asarray(times, dtype=np.float64)
    values = np.asarray(values, dtype=np.float64)
    if times.ndim != 1 or values.ndim not in (1, 2) or len(values) != len(times):
        raise DataError(f"{name}: times {times.shape} and values {values.shape} do not go together", fix="[T] and [T, C]")
    values = values[:, None] if values.ndim == 1 else values
    usable = np.isfinite(times)
    if not usable.any():
        raise DataError(f"{name}: there is no reading with a time")
    order = np.argsort(times[usable], kind="stable")
    times, values = times[usable][order], values[usable][order]
    last = np.append(np.diff(times) > 0, True)
    return times[last], values[last]

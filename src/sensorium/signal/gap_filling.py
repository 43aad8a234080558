"""Filling of gaps in series, with a mask of what was missing."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sensorium.core.errors import ConfigError
from sensorium.core.modality import Array

Fill = Literal["line", "hold", "nearest"]


def fill(steps: Array, how: Fill = "line", limit: int | None = None) -> tuple[Array, Array]:
    """Fill gaps (NaN, infinite) in readings ``[T, C]``; return the result and the mask of missing readings ``[T, C]``.

    A gap longer than ``limit`` steps stays NaN throughout, as does a channel without any reading.

    Args:
        steps: ``[T, C]`` float.
        how: ``line``: linear interpolation; ``hold``: the last reading; ``nearest``: the nearest reading. Before the first
            and
            after the last reading, that reading is repeated.
        limit: The longest gap to fill, in steps; None: any.
    """
    if limit is not None and limit < 0:
        raise ConfigError(f"a gap of at most {limit} steps is none: 0 or more")
    missing = ~np.isfinite(steps)
    out = np.where(missing, np.nan, steps)
    if not missing.any():
        return out, missing
    place = np.arange(len(steps))
    for channel in np.flatnonzero(missing.any(axis=0)):
        gone = missing[:, channel]
        real = place[~gone]
        if not len(real):
            continue
        after = np.searchsorted(real, place[gone])
        left, right = real[(after - 1).clip(0)], real[after.clip(max=len(real) - 1)]
        if how == "line":
            values = np.interp(place[gone], real, steps[real, channel])
        elif how == "hold":
            values = steps[left, channel]
        else:
            values = steps[np.where(place[gone] - left <= right - place[gone], left, right), channel]
        if limit is not None:
            # Length of the gap around each missing step; at the ends there is a reading on one side only.
            start, end = np.where(after > 0, left, -1), np.where(after < len(real), right, len(steps))
            values = np.where(end - start - 1 <= limit, values, np.nan)
        out[gone, channel] = values
    return out, missing

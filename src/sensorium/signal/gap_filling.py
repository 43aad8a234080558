"""Missing readings filled in, as far as one may, and where they were."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sensorium.core.errors import ConfigError
from sensorium.core.modality import Array

Fill = Literal["line", "hold", "nearest"]


def fill(steps: Array, how: Fill = "line", limit: int | None = None) -> tuple[Array, Array]:
    """Readings ``[T, C]`` with their gaps (NaN, infinite) filled in, and which they were ``[T, C]`` bool.

    A gap longer than ``limit`` steps stays NaN whole, as does a channel without any reading.

    Args:
        steps: ``[T, C]`` float.
        how: ``line``: on a straight line between the readings around it; ``hold``: the last reading goes on; ``nearest``:
            the nearer of the two. Before the first and after the last reading that one stands.
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
            # The length of the gap that each missing step lies in; at the ends there is a reading on one side only.
            start, end = np.where(after > 0, left, -1), np.where(after < len(real), right, len(steps))
            values = np.where(end - start - 1 <= limit, values, np.nan)
        out[gone, channel] = values
    return out, missing

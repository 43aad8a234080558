"""Skeletons: shapes thinned to lines one pixel wide."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def skeleton(maps: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return ``maps`` ``[N, h, w]`` thinned to lines one pixel wide, which stay connected.

    Source: Zhang and Suen, https://doi.org/10.1145/357994.358023.
    """
    framed: NDArray[np.bool_] = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    wide = framed.shape[2]
    flat = framed.reshape(-1)
    around = [down * wide + right for down, right in _AROUND]
    at = flat.nonzero()[0]
    while True:
        before = len(at)
        for table in _removable():
            # Neighbours p2 to p9, clockwise from the one above.
            code = np.zeros(len(at), np.uint8)
            for bit, step in enumerate(around):
                code |= flat[at + step].view(np.uint8) << bit
            removed = table[code]
            flat[at[removed]] = False
            at = at[~removed]
        if len(at) == before:
            return framed[:, 1:-1, 1:-1]


_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


@lru_cache(maxsize=1)
def _removable() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return which of the 256 neighbourhoods allow their pixel to be removed, in each of the two sub-iterations."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    count = bits.sum(axis=1)
    rises = ((bits == 0) & (np.roll(bits, -1, axis=1) == 1)).sum(axis=1)
    up, right, down, left = (bits[:, i] for i in (0, 2, 4, 6))
    common = (count >= 2) & (count <= 6) & (rises == 1)
    return (
        common & (up * right * down == 0) & (right * down * left == 0),
        common & (up * right * left == 0) & (up * down * left == 0),
    )

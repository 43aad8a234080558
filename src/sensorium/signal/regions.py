"""Connected regions of a map of class indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def connected_regions(
    codes: NDArray[Any], background: int | None, most: int, *, diagonal: bool = False
) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return the class and the pixels ``[h, w]`` of each connected region, the largest first.

    Args:
        codes: Class indices ``[h, w]``.
        background: The class whose regions are left out; None: all classes are included.
        most: Maximum number of regions.
        diagonal: Whether pixels that touch at a corner are connected, as those of thin lines are.
    """
    from scipy.ndimage import label

    regions: list[tuple[int, NDArray[np.bool_]]] = []
    for code in np.unique(codes).tolist():
        if code == background:
            continue
        numbers, count = label(codes == code, np.ones((3, 3)) if diagonal else None)
        sizes = np.bincount(numbers.reshape(-1), minlength=count + 1)[1:]
        largest = np.argsort(-sizes, kind="stable")[:most]
        regions += [(code, numbers == i + 1) for i in largest.tolist()]
    return sorted(regions, key=lambda region: -int(region[1].sum()))[:most]

"""Padded arrays for rows of different length."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def padded(
    lengths: NDArray[np.int64], tail: tuple[int, ...], dtype: DTypeLike, least: int = 1
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Zeros ``[B, N, *tail]`` of ``dtype`` to be filled, and which steps are real ``[B, N]``, for rows of ``lengths``; N
    is the longest, but at least ``least``."""
    longest = max(int(lengths.max(initial=0)), least)
    mask: NDArray[np.bool_] = np.arange(longest) < lengths[:, None]
    data: NDArray[Any] = np.zeros((len(lengths), longest, *tail), dtype)
    return data, mask

"""Sliding windows over long recordings, with times and labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import Array


class Windows(NamedTuple):
    """Windows of one recording.

    Args:
        data: ``[N, length, C]``, zero past the end of the recording.
        mask: Real steps, ``[N, length]`` bool.
        start: Index of the first step of each window ``[N]``.
        times: Time of that step ``[N]``, if times were given.
        labels: Majority label of each window ``[N]``, if labels were given.
        purity: Share of the window's real steps with that label ``[N]``.
    """

    data: Array
    mask: Array
    start: Array
    times: Array | None = None
    labels: Array | None = None
    purity: Array | None = None


def windows(
    steps: Array,
    length: int,
    step: int,
    *,
    times: Array | None = None,
    labels: Array | None = None,
    partial: bool = False,
) -> Windows:
    """Cut a recording ``[T]`` or ``[T, C]`` into windows of ``length`` steps, ``step`` apart.

    Args:
        steps: The readings.
        length: Steps per window.
        step: Steps from one window to the next; equal to ``length`` for windows that do not overlap.
        times: Time of each step ``[T]``.
        labels: Label of each step ``[T]``.
        partial: Whether a last, partly filled window is kept (masked) rather than dropped.
    """
    steps = np.asarray(steps)
    steps = steps[:, None] if steps.ndim == 1 else steps
    if length < 1 or step < 1:
        raise ConfigError(f"windows of {length} steps every {step} steps are none: 1 or more")
    for what, values in (("times", times), ("labels", labels)):
        if values is not None and len(values) != len(steps):
            raise DataError(f"{len(values)} {what} for {len(steps)} steps")
    count = len(steps)
    full_windows = max(0, (count - length) // step + 1)
    # Enough windows to cover the recording, none starting past its end.
    total = min(max(1, -(-(count - length) // step) + 1), -(-count // step)) if partial else full_windows
    start = np.arange(total) * step
    mask = start[:, None] + np.arange(length) < count
    if total > full_windows:
        steps = np.concatenate([steps, np.zeros((max(int(start[-1]) + length - count, 0), steps.shape[1]), steps.dtype)])
    if total:
        # A view: overlapping windows share memory.
        data = np.lib.stride_tricks.sliding_window_view(steps, length, axis=0)[::step][:total].swapaxes(1, 2)
    else:
        data = np.zeros((0, length, steps.shape[1]), steps.dtype)
    most = _majority(np.asarray(labels), start, mask) if labels is not None else (None, None)
    return Windows(data, mask, start, None if times is None else np.asarray(times)[start], *most)


def _majority(labels: Array, start: Array, mask: Array) -> tuple[Array, Array]:
    """Return the majority label of each window (on ties, the first in sorted order) and its share."""
    if not len(start):
        return labels[:0], np.zeros(0)
    names, codes = np.unique(labels, return_inverse=True)
    cumulative = np.concatenate(
        [np.zeros((1, len(names)), np.int64), np.cumsum(np.eye(len(names), dtype=np.int64)[codes], axis=0)]
    )
    count = mask.sum(axis=1)
    votes = cumulative[start + count] - cumulative[start]
    return names[votes.argmax(axis=1)], votes.max(axis=1, initial=0) / count

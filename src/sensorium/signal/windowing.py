"""Long recordings cut into windows, each with its time and label."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import Array


class Windows(NamedTuple):
    """Windows of a recording.

    Args:
        data: ``[N, length, C]``, zero past the recording's end.
        mask: ``[N, length]`` bool: real steps.
        start: ``[N]``: the step each begins at.
        times: ``[N]``: the time of that step, if times were given.
        labels: ``[N]``: the label most steps of it have, if labels were given.
        purity: ``[N]``: the share of its real steps that have that label.
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
    """A recording ``[T]`` or ``[T, C]`` in windows of ``length`` steps, each ``step`` after the one before.

    Args:
        steps: The readings.
        length: Steps in a window.
        step: Steps from one window to the next; as many as ``length``: they do not overlap.
        times: When each step was, ``[T]``.
        labels: What each step was, ``[T]``.
        partial: Whether a last window that the recording only partly fills is kept (masked); else its steps are left out.
    """
    steps = np.asarray(steps)
    steps = steps[:, None] if steps.ndim == 1 else steps
    if length < 1 or step < 1:
        raise ConfigError(f"windows of {length} steps every {step} steps are none: 1 or more")
    for what, given in (("times", times), ("labels", labels)):
        if given is not None and len(given) != len(steps):
            raise DataError(f"{len(given)} {what} for {len(steps)} steps")
    count = len(steps)
    whole = max(0, (count - length) // step + 1)
    # As many as it takes to cover the recording, none of them beginning past its end.
    total = min(max(1, -(-(count - length) // step) + 1), -(-count // step)) if partial else whole
    start = np.arange(total) * step
    mask = start[:, None] + np.arange(length) < count
    if total > whole:
        steps = np.concatenate([steps, np.zeros((max(int(start[-1]) + length - count, 0), steps.shape[1]), steps.dtype)])
    if total:
        # A view: windows that overlap share their memory until one of them is written to.
        data = np.lib.stride_tricks.sliding_window_view(steps, length, axis=0)[::step][:total].swapaxes(1, 2)
    else:
        data = np.zeros((0, length, steps.shape[1]), steps.dtype)
    most = _majority(np.asarray(labels), start, mask) if labels is not None else (None, None)
    return Windows(data, mask, start, None if times is None else np.asarray(times)[start], *most)


def _majority(labels: Array, start: Array, mask: Array) -> tuple[Array, Array]:
    """The commonest label of each window (of equals, the first in order), and its share."""
    if not len(start):
        return labels[:0], np.zeros(0)
    names, codes = np.unique(labels, return_inverse=True)
    seen = np.concatenate(
        [np.zeros((1, len(names)), np.int64), np.cumsum(np.eye(len(names), dtype=np.int64)[codes], axis=0)]
    )
    count = mask.sum(axis=1)
    votes = seen[start + count] - seen[start]
    return names[votes.argmax(axis=1)], votes.max(axis=1, initial=0) / count

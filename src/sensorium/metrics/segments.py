"""Scores of label sequences: of steps, and of segments, which are runs of one label.

Formulas of Lea et al. 2017, Temporal convolutional networks for action segmentation, https://arxiv.org/abs/1611.05267.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from sensorium.metrics.weighting import ratio

OVERLAPS = (0.10, 0.25, 0.50)
"""Intersections over union from which a predicted segment counts as found."""

Segment = tuple[int, int, int]
"""First step, step after the last, class."""


def segments_of(codes: Sequence[int], background: int | None = None, labels: int | None = None) -> list[Segment]:
    """Return the runs of equal codes in order, without those of the background and negative ones (unknown).

    Args:
        codes: Class of each step.
        background: The class that makes no segments.
        labels: The number of classes, where it is added to the code of a step that begins a segment (the ``B`` of BIO
            tags), so that neighbours of one class stay apart; None: neighbours are one segment.
    """
    runs, start = [], 0
    if labels is not None:
        return _begun_segments(codes, background, labels)
    for code, group in groupby(codes):
        end = start + len(list(group))
        if code >= 0 and code != background:
            runs.append((start, end, code))
        start = end
    return runs


def _begun_segments(codes: Sequence[int], background: int | None, labels: int) -> list[Segment]:
    """As ``segments_of`` for codes with beginnings; a step inside of no segment of its class begins one."""
    runs: list[Segment] = []
    before = -1
    for i, code in enumerate(codes):
        label = code % labels if code >= 0 else -1
        if label >= 0 and label != background:
            goes_on = code < labels and label == before
            runs[-1:] = [(runs[-1][0], i + 1, label)] if goes_on else [*runs[-1:], (i, i + 1, label)]
        before = label
    return runs


def matched(predicted: Sequence[Segment], true: Sequence[Segment], overlap: float) -> tuple[int, int, int]:
    """Return how many predicted segments are found, how many are too many, and how many true ones are missed.

    In order, a predicted segment is held against the true segment of its class that it overlaps most; it is found if their
    intersection over union reaches ``overlap`` and no segment before it has found the same.

    Args:
        predicted: Predicted segments.
        true: True segments.
        overlap: The smallest intersection over union.
    """
    hits = [False] * len(true)
    count = 0
    for start, end, code in predicted:
        best, where = 0.0, -1
        for i, (other, last, known) in enumerate(true):
            shared = min(end, last) - max(start, other)
            if code == known and shared > 0:
                value = shared / (max(end, last) - min(start, other))
                if value > best:
                    best, where = value, i
        if where >= 0 and best >= overlap and not hits[where]:
            hits[where] = True
            count += 1
    return count, len(predicted) - count, len(true) - count


def edit_score(predicted: Sequence[int], true: Sequence[int]) -> float:
    """Return 1 less the Levenshtein distance of two orders of segment labels over the longer's length; 1 if both are empty.

    Args:
        predicted: Labels of the predicted segments.
        true: Labels of the true segments.
    """
    if not predicted and not true:
        return 1.0
    row = list(range(len(true) + 1))
    for i, predicted_label in enumerate(predicted, 1):
        last, row[0] = row[0], i
        for j, true_label in enumerate(true, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (predicted_label != true_label))
    return 1 - row[-1] / max(len(predicted), len(true))


def pooled_f1(counts: Tensor, weights: Tensor) -> Tensor:
    """Return the F1 score ``[R]`` of all rows together.

    Args:
        counts: ``[B, 3]``: found, too many, missed, by row.
        weights: ``[R, B]``: how often each row counts in each resample.
    """
    hits, extra, missing = (weights @ counts.double()).unbind(dim=1)
    return ratio(2 * hits, 2 * hits + extra + missing)


def count_segments(
    predicted: Sequence[int], true: Sequence[int], background: int | None, labels: int | None = None
) -> Tensor:
    """Return the counts of ``matched`` at each of ``OVERLAPS``, then those of exact segments (first step, last step and
    class are right, as in the CoNLL scores of names), ``[4, 3]`` int64.

    Args:
        predicted: Class of each step.
        true: True class of each step; negative is unknown.
        background: The class that makes no segments.
        labels: As in ``segments_of``.
    """
    answered = segments_of([p if t >= 0 else -1 for p, t in zip(predicted, true, strict=True)], background, labels)
    known = segments_of(true, background, labels)
    exact = len(set(answered) & set(known))
    counts = [matched(answered, known, overlap) for overlap in OVERLAPS]
    return torch.tensor([*counts, (exact, len(answered) - exact, len(known) - exact)])

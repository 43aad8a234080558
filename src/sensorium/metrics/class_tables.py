"""Error analysis of classifiers: confusion matrix, per-class scores and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sensorium.metrics import classification, weighting


class Bin(NamedTuple):
    """A calibration bin: its range of confidence, mean confidence, accuracy and number of rows."""

    low: float
    high: float
    confidence: float
    accuracy: float
    rows: int


class PerClass(NamedTuple):
    """Number of rows, precision, recall and F1 of one class."""

    name: str
    rows: int
    precision: float
    recall: float
    f1: float


def confusion(prediction: Tensor, truth: Tensor) -> list[list[int]]:
    """Return counts by true class (row) and predicted class (column).

    Args:
        prediction: Probabilities ``[B, K]``.
        truth: Class indices ``[B]``.
    """
    weight = torch.ones(1, truth.shape[0], dtype=torch.float64)
    counts: list[list[int]] = classification.confusion(prediction, truth, weight)[0].long().tolist()
    return counts


def calibration(prediction: Tensor, truth: Tensor, bins: int = 15) -> list[Bin]:
    """Return the non-empty calibration bins of equal width.

    Args:
        prediction: Probabilities ``[B, K]``.
        truth: Class indices ``[B]``.
        bins: Number of bins.
    """
    sure, guess = prediction.max(dim=1)
    right = (guess == truth).double()
    index = (sure * bins).long().clamp(0, bins - 1)
    table = []
    for i in range(bins):
        inside = index == i
        if inside.any():
            confidence, accuracy = float(sure[inside].mean()), float(right[inside].mean())
            table.append(Bin(i / bins, (i + 1) / bins, confidence, accuracy, int(inside.sum())))
    return table


def per_class(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> list[PerClass]:
    """Return the scores of every class from the confusion matrix ``counts`` with ``labels``, most frequent first."""
    table = torch.tensor(counts, dtype=torch.float64)
    return _ordered(labels, table.diagonal(), table.sum(dim=0), table.sum(dim=1))


def per_label(prediction: Tensor, truth: Tensor, labels: Sequence[str], threshold: float) -> list[PerClass]:
    """Return the scores of every label of a multi-label task, most frequent first.

    Args:
        prediction: Probabilities ``[B, K]``.
        truth: 0 or 1 ``[B, K]``.
        labels: The labels.
        threshold: Probability from which a label counts as predicted.
    """
    predicted, real = (prediction >= threshold).double(), truth.double()
    return _ordered(labels, (predicted * real).sum(dim=0), predicted.sum(dim=0), real.sum(dim=0))


def _ordered(labels: Sequence[str], hits: Tensor, predicted: Tensor, real: Tensor) -> list[PerClass]:
    columns = [
        real.long(),
        weighting.ratio(hits, predicted),
        weighting.ratio(hits, real),
        weighting.ratio(2 * hits, predicted + real),
    ]
    rows = [PerClass(*row) for row in zip(labels, *(column.tolist() for column in columns), strict=True)]
    return sorted(rows, key=lambda row: -row.rows)

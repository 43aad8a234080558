"""Where a classifier errs: its confusion matrix, each class by itself, and whether its confidence can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sensorium.metrics import weighted


class Bin(NamedTuple):
    """Rows of like confidence: how sure the model was on average, and how often it was right."""

    low: float
    high: float
    confidence: float
    accuracy: float
    rows: int


class PerClass(NamedTuple):
    """One class: how many rows have it, and how well it is found."""

    name: str
    rows: int
    precision: float
    recall: float
    f1: float


def confusion(prediction: Tensor, truth: Tensor) -> list[list[int]]:
    """Counts ``[K, K]`` of ``truth`` (rows) against the class of the probabilities ``prediction`` (columns)."""
    weight = torch.ones(1, truth.shape[0], dtype=torch.float64)
    counts: list[list[int]] = weighted.confusion(prediction, truth, weight)[0].long().tolist()
    return counts


def calibration(prediction: Tensor, truth: Tensor, bins: int = 15) -> list[Bin]:
    """Confidence of ``prediction`` against accuracy by ``truth``, in ``bins`` of equal width; empty bins are left out."""
    sure, guess = prediction.max(dim=1)
    right = (guess == truth).double()
    index = (sure * bins).long().clamp(0, bins - 1)
    found = []
    for i in range(bins):
        inside = index == i
        if inside.any():
            confidence, accuracy = float(sure[inside].mean()), float(right[inside].mean())
            found.append(Bin(i / bins, (i + 1) / bins, confidence, accuracy, int(inside.sum())))
    return found


def per_class(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> list[PerClass]:
    """Precision, recall and F1 of every class of the confusion matrix ``counts``, named by ``labels``, the most frequent
    first."""
    table = torch.tensor(counts, dtype=torch.float64)
    return _ordered(labels, table.diagonal(), table.sum(dim=0), table.sum(dim=1))


def per_label(prediction: Tensor, truth: Tensor, labels: Sequence[str], threshold: float) -> list[PerClass]:
    """Precision, recall and F1 of every one of ``labels``, from probabilities ``prediction`` above ``threshold`` and
    ``truth``, the most frequent first."""
    said, real = (prediction >= threshold).double(), truth.double()
    return _ordered(labels, (said * real).sum(dim=0), said.sum(dim=0), real.sum(dim=0))


def _ordered(labels: Sequence[str], hits: Tensor, said: Tensor, real: Tensor) -> list[PerClass]:
    columns = [
        real.long(),
        weighted.ratio(hits, said),
        weighted.ratio(hits, real),
        weighted.ratio(2 * hits, said + real),
    ]
    rows = [PerClass(*row) for row in zip(labels, *(column.tolist() for column in columns), strict=True)]
    return sorted(rows, key=lambda row: -row.rows)

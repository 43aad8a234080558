"""Metrics of multi-label classification: F1, accuracy, AUROC and average precision over labels.

Each takes probabilities ``prediction`` and truths ``truth`` ``[B, K]`` and
``weight`` ``[R, B]`` (see ``metrics/weighting.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.metrics.classification import area, average_area
from sensorium.metrics.weighting import Measure, mean, ratio


def _agreement(prediction: Tensor, truth: Tensor, weight: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """True positives, and predicted plus true counts, of each label ``[R, K]``: the two parts of F1."""
    predicted, real = (prediction >= threshold).double(), truth.double()
    return weight @ (predicted * real), weight @ (predicted + real)


def label_f1_macro(prediction: Tensor, truth: Tensor, weight: Tensor, threshold: float = 0.5) -> Tensor:
    """Return the macro-averaged F1 over labels; labels that neither occur nor are predicted count as 0, as in scikit-learn.

    Args:
        prediction: Probabilities ``[B, K]``.
        truth: 0 or 1 ``[B, K]``.
        weight: Weights of the rows ``[R, B]``.
        threshold: Probability from which a label counts as predicted.
    """
    hits, total = _agreement(prediction, truth, weight, threshold)
    has_rows = weight.sum(dim=1) > 0
    return torch.where(has_rows, ratio(2 * hits, total).nan_to_num(0.0).mean(dim=1), torch.nan)


def label_f1_micro(prediction: Tensor, truth: Tensor, weight: Tensor, threshold: float = 0.5) -> Tensor:
    """Return the micro-averaged F1 over all labels of all rows.

    Args:
        prediction: Probabilities ``[B, K]``.
        truth: 0 or 1 ``[B, K]``.
        weight: Weights of the rows ``[R, B]``.
        threshold: Probability from which a label counts as predicted.
    """
    hits, total = _agreement(prediction, truth, weight, threshold)
    return ratio(2 * hits.sum(dim=1), total.sum(dim=1))


def label_accuracy(prediction: Tensor, truth: Tensor, weight: Tensor, threshold: float = 0.5) -> Tensor:
    """Return the share of correct label decisions.

    Args:
        prediction: Probabilities ``[B, K]``.
        truth: 0 or 1 ``[B, K]``.
        weight: Weights of the rows ``[R, B]``.
        threshold: Probability from which a label counts as predicted.
    """
    return mean(((prediction >= threshold) == (truth > 0.5)).double().mean(dim=1), weight)


def label_auroc(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the area under the ROC curve, averaged over labels.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    return _over_labels(area, prediction, truth, weight)


def label_average_precision(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the average precision, averaged over labels.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    return _over_labels(average_area, prediction, truth, weight)


def _over_labels(measure: Measure, prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    labels = zip(prediction.T, truth.T > 0.5, strict=True)
    return torch.stack([measure(score, positive, weight) for score, positive in labels]).nanmean(dim=0)

"""Metrics of classification: accuracy, precision, recall, F1, AUROC, average precision, log loss, calibration error.

Each takes probabilities ``prediction`` ``[B, K]``, class indices ``truth`` ``[B]`` and ``weight`` ``[R, B]`` float64 (see
``metrics/weighting.py``), and returns ``[R]``, NaN where it is undefined (no row, a single class), without warnings.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.metrics.weighting import mean, ratio


def _tally(index: Tensor, weight: Tensor, size: int) -> Tensor:
    """Weights ``[R, B]`` summed by ``index`` ``[B]`` into ``[R, size]``."""
    out = weight.new_zeros((size, weight.shape[0]))
    return out.index_add_(0, index, weight.T.contiguous()).T


def confusion(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return weighted counts ``[R, K, K]`` by true class (row) and predicted class (column).

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    classes = prediction.shape[1]
    index = truth.long() * classes + prediction.argmax(dim=1)
    return _tally(index, weight, classes * classes).reshape(-1, classes, classes)


def accuracy(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the share of correct predictions.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    return mean(prediction.argmax(dim=1) == truth, weight)


def balanced_accuracy(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the mean recall over the classes that occur.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    table = confusion(prediction, truth, weight)
    return ratio(table.diagonal(dim1=1, dim2=2), table.sum(dim=2)).nanmean(dim=1)


def _macro(score: Tensor, table: Tensor) -> Tensor:
    """Mean over the classes that occur or are predicted; undefined scores count as 0, as in scikit-learn."""
    occurring = (table.sum(dim=1) + table.sum(dim=2)) > 0
    return ratio((score.nan_to_num(0.0) * occurring).sum(dim=1), occurring.sum(dim=1).double())


def precision(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the macro-averaged precision.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    table = confusion(prediction, truth, weight)
    return _macro(ratio(table.diagonal(dim1=1, dim2=2), table.sum(dim=1)), table)


def recall(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the macro-averaged recall.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    table = confusion(prediction, truth, weight)
    return _macro(ratio(table.diagonal(dim1=1, dim2=2), table.sum(dim=2)), table)


def f1(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the macro-averaged F1, the harmonic mean of precision and recall.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    table = confusion(prediction, truth, weight)
    return _macro(ratio(2 * table.diagonal(dim1=1, dim2=2), table.sum(dim=1) + table.sum(dim=2)), table)


def auroc(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the area under the ROC curve: of the second of two classes, else the one-vs-rest mean.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    classes = prediction.shape[1]
    which = [1] if classes == 2 else range(classes)
    return torch.stack([area(prediction[:, k], truth == k, weight) for k in which]).nanmean(dim=0)


def log_loss(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of the true class.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    chance = prediction.gather(1, truth.long()[:, None])[:, 0].double()
    return mean(-chance.clamp_min(torch.finfo(torch.float32).eps).log(), weight)


def calibration_error(prediction: Tensor, truth: Tensor, weight: Tensor, bins: int = 15) -> Tensor:
    """Return the expected calibration error over equal-width bins of confidence.

    Args:
        prediction: Probabilities ``[B, K]``.
        truth: Class indices ``[B]``.
        weight: Weights of the rows ``[R, B]``.
        bins: Number of bins.
    """
    sure, guess = prediction.max(dim=1)
    index = (sure * bins).long().clamp(0, bins - 1)
    gap = (sure - (guess == truth).to(sure)).double()
    return ratio(_tally(index, weight * gap, bins).abs().sum(dim=1), weight.sum(dim=1))


def _steps(score: Tensor, positive: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cumulative positives and negatives ``[R, G]`` at each distinct score, from the highest down."""
    order = score.argsort(descending=True)
    ends = torch.cat([score[order].diff() != 0, score.new_ones(min(1, score.shape[0]), dtype=torch.bool)])
    ordered, hits = weight[:, order], positive[order].double()
    yes = (ordered * hits).cumsum(dim=1)[:, ends]
    return yes, ordered.cumsum(dim=1)[:, ends] - yes


def area(score: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Return the area under the ROC curve of ``score`` for ``positive`` rows under ``weight``; ties count half."""
    yes, no = _steps(score, positive, weight)
    if yes.shape[1] == 0:
        return weight.new_full((weight.shape[0],), torch.nan)
    start = torch.zeros_like(yes[:, :1])
    wide, high = no.diff(dim=1, prepend=start), torch.cat([start, yes], dim=1)
    return ratio((wide * (high[:, 1:] + high[:, :-1]) / 2).sum(dim=1), yes[:, -1] * no[:, -1])


def average_area(score: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Return the average precision of ``score`` for ``positive`` rows under ``weight``."""
    yes, no = _steps(score, positive, weight)
    if yes.shape[1] == 0:
        return weight.new_full((weight.shape[0],), torch.nan)
    gained = yes.diff(dim=1, prepend=torch.zeros_like(yes[:, :1]))
    return ratio((gained * ratio(yes, yes + no).nan_to_num(0.0)).sum(dim=1), yes[:, -1])

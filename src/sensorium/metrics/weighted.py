"""Metrics as weighted sums, so that one formula computes a score and all its bootstrap resamples at once.

Each takes ``prediction`` and ``truth`` (shapes by kind of task, in the comments below) and ``weight`` ``[R, B]`` float64,
the weight of each of B rows in each of R resamples (ones for the plain score). It returns ``[R]``, NaN where the metric is
undefined (no row, a single class), without warnings or errors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Measure = Callable[[Tensor, Tensor, Tensor], Tensor]


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return ``above / below``, NaN where ``below`` is 0."""
    return torch.where(below > 0, above / below.clamp_min(1e-300), torch.nan)


def mean(value: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of ``value`` ``[B]`` in each resample under ``weight`` ``[R, B]``."""
    return ratio(weight @ value.double(), weight.sum(dim=1))


def _tally(index: Tensor, weight: Tensor, size: int) -> Tensor:
    """Weights ``[R, B]`` summed by ``index`` ``[B]`` into ``[R, size]``."""
    out = weight.new_zeros((size, weight.shape[0]))
    return out.index_add_(0, index, weight.T.contiguous()).T


# Classes: prediction [B, K] probabilities, truth [B] class indices.


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
    seen = (table.sum(dim=1) + table.sum(dim=2)) > 0
    return ratio((score.nan_to_num(0.0) * seen).sum(dim=1), seen.sum(dim=1).double())


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


# Yes or no: score [B], positive [B] bool.


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


# Labels: prediction [B, K] probabilities, truth [B, K] of 0 and 1.


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
    some = weight.sum(dim=1) > 0
    return torch.where(some, ratio(2 * hits, total).nan_to_num(0.0).mean(dim=1), torch.nan)


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


# Numbers: prediction [B], truth [B].


def mae(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the mean absolute error.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    return mean((prediction - truth).abs(), weight)


def rmse(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the root mean squared error.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    return mean((prediction - truth).double().square(), weight).sqrt()


def _spread(value: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of products of deviations from the mean; values near rounding error become 0."""
    total = weight.sum(dim=1).clamp_min(1e-300)
    value, other = value - value.mean(), other - other.mean()
    product = weight @ (value * other)
    result = product - (weight @ value) * (weight @ other) / total
    noise = weight @ (value * other).abs() * 1e-12
    return torch.where(result.abs() > noise, result, 0.0)


def r2(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the coefficient of determination: 1 is perfect, 0 no better than the mean of these rows.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    prediction, truth = prediction.double(), truth.double()
    return 1 - ratio(weight @ (prediction - truth).square(), _spread(truth, truth, weight))


def pearson(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the Pearson correlation, -1 to 1.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    x, y = prediction.double(), truth.double()
    below = (_spread(x, x, weight) * _spread(y, y, weight)).sqrt()
    return ratio(_spread(x, y, weight), below).clamp(-1, 1)

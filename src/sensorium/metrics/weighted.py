"""Scores of predictions as weighted sums, so that one formula gives the score and all its bootstrap resamples at once.

Each takes ``(prediction, truth, weight)`` with ``weight`` ``[R, B]`` float64 (how often each of B rows counts in each of R
resamples; ones for the plain score) and gives ``[R]``, NaN where the rows say nothing (none at all, one class only).
Nothing here warns or fails on one row, one class or no row.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Measure = Callable[[Tensor, Tensor, Tensor], Tensor]


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """``above / below``, NaN where nothing is below."""
    return torch.where(below > 0, above / below.clamp_min(1e-300), torch.nan)


def mean(value: Tensor, weight: Tensor) -> Tensor:
    """The mean of ``value`` ``[B]`` with weights ``weight`` ``[R, B]``, in each resample ``[R]``."""
    return ratio(weight @ value.double(), weight.sum(dim=1))


def _tally(index: Tensor, weight: Tensor, size: int) -> Tensor:
    """Weights ``[R, B]`` summed by ``index`` ``[B]`` into ``[R, size]``."""
    out = weight.new_zeros((size, weight.shape[0]))
    return out.index_add_(0, index, weight.T.contiguous()).T


# Classes: prediction [B, K] probabilities, truth [B] class indices.


def confusion(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Counts ``[R, K, K]`` of ``truth`` (rows) against the class of ``prediction`` (columns), with weights ``weight``
    ``[R, B]``."""
    classes = prediction.shape[1]
    index = truth.long() * classes + prediction.argmax(dim=1)
    return _tally(index, weight, classes * classes).reshape(-1, classes, classes)


def accuracy(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Accuracy ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R, B]``."""
    return mean(prediction.argmax(dim=1) == truth, weight)


def balanced_accuracy(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean recall ``[R]`` over the classes that occur, of ``prediction`` and ``truth`` of each row, with weights
    ``weight`` ``[R, B]``."""
    table = confusion(prediction, truth, weight)
    return ratio(table.diagonal(dim1=1, dim2=2), table.sum(dim=2)).nanmean(dim=1)


def _macro(score: Tensor, table: Tensor) -> Tensor:
    """Mean over the classes that occur or are predicted; a class without a score there counts 0 (as in scikit-learn)."""
    seen = (table.sum(dim=1) + table.sum(dim=2)) > 0
    return ratio((score.nan_to_num(0.0) * seen).sum(dim=1), seen.sum(dim=1).double())


def precision(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Macro precision ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R, B]``."""
    table = confusion(prediction, truth, weight)
    return _macro(ratio(table.diagonal(dim1=1, dim2=2), table.sum(dim=1)), table)


def recall(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Macro recall ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R, B]``."""
    table = confusion(prediction, truth, weight)
    return _macro(ratio(table.diagonal(dim1=1, dim2=2), table.sum(dim=2)), table)


def f1(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Macro F1 ``[R]``, the mean over classes of the harmonic mean of precision and recall, of ``prediction`` and
    ``truth`` of each row, with weights ``weight`` ``[R, B]``."""
    table = confusion(prediction, truth, weight)
    return _macro(ratio(2 * table.diagonal(dim1=1, dim2=2), table.sum(dim=1) + table.sum(dim=2)), table)


def auroc(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Area under the ROC curve ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R, B]``:
    of the last class if there are two, otherwise the one-against-rest mean."""
    classes = prediction.shape[1]
    which = [1] if classes == 2 else range(classes)
    return torch.stack([area(prediction[:, k], truth == k, weight) for k in which]).nanmean(dim=0)


def log_loss(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R, B]``."""
    chance = prediction.gather(1, truth.long()[:, None])[:, 0].double()
    return mean(-chance.clamp_min(torch.finfo(torch.float32).eps).log(), weight)


def calibration_error(prediction: Tensor, truth: Tensor, weight: Tensor, bins: int = 15) -> Tensor:
    """Expected calibration error ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R,
    B]``: the mean difference of confidence and accuracy over ``bins`` of equal width."""
    sure, guess = prediction.max(dim=1)
    index = (sure * bins).long().clamp(0, bins - 1)
    gap = (sure - (guess == truth).to(sure)).double()
    return ratio(_tally(index, weight * gap, bins).abs().sum(dim=1), weight.sum(dim=1))


# Yes or no: score [B], positive [B] bool.


def _steps(score: Tensor, positive: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Positives and negatives ``[R, G]`` with at least each distinct score, from the highest down."""
    order = score.argsort(descending=True)
    ends = torch.cat([score[order].diff() != 0, score.new_ones(min(1, score.shape[0]), dtype=torch.bool)])
    ordered, hits = weight[:, order], positive[order].double()
    yes = (ordered * hits).cumsum(dim=1)[:, ends]
    return yes, ordered.cumsum(dim=1)[:, ends] - yes


def area(score: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Area under the ROC curve of ``score`` for ``positive`` rows with weights ``weight``, ties counted half."""
    yes, no = _steps(score, positive, weight)
    if yes.shape[1] == 0:
        return weight.new_full((weight.shape[0],), torch.nan)
    start = torch.zeros_like(yes[:, :1])
    wide, high = no.diff(dim=1, prepend=start), torch.cat([start, yes], dim=1)
    return ratio((wide * (high[:, 1:] + high[:, :-1]) / 2).sum(dim=1), yes[:, -1] * no[:, -1])


def average_area(score: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Average precision of ``score`` for ``positive`` rows with weights ``weight``: precision at each distinct score,
    weighted by the recall gained."""
    yes, no = _steps(score, positive, weight)
    if yes.shape[1] == 0:
        return weight.new_full((weight.shape[0],), torch.nan)
    gained = yes.diff(dim=1, prepend=torch.zeros_like(yes[:, :1]))
    return ratio((gained * ratio(yes, yes + no).nan_to_num(0.0)).sum(dim=1), yes[:, -1])


# Labels: prediction [B, K] probabilities, truth [B, K] of 0 and 1.


def _agreement(prediction: Tensor, truth: Tensor, weight: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Hits, and predicted + true, of each label ``[R, K]``: the two parts of F1."""
    said, real = (prediction >= threshold).double(), truth.double()
    return weight @ (said * real), weight @ (said + real)


def label_f1_macro(prediction: Tensor, truth: Tensor, weight: Tensor, threshold: float = 0.5) -> Tensor:
    """Mean F1 over labels at ``threshold``, of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R,
    B]``; a label that neither occurs nor is predicted counts 0 (as in scikit-learn)."""
    hits, total = _agreement(prediction, truth, weight, threshold)
    some = weight.sum(dim=1) > 0
    return torch.where(some, ratio(2 * hits, total).nan_to_num(0.0).mean(dim=1), torch.nan)


def label_f1_micro(prediction: Tensor, truth: Tensor, weight: Tensor, threshold: float = 0.5) -> Tensor:
    """F1 over all labels of all rows together at ``threshold``, of ``prediction`` and ``truth`` of each row, with
    weights ``weight`` ``[R, B]``."""
    hits, total = _agreement(prediction, truth, weight, threshold)
    return ratio(2 * hits.sum(dim=1), total.sum(dim=1))


def label_accuracy(prediction: Tensor, truth: Tensor, weight: Tensor, threshold: float = 0.5) -> Tensor:
    """Share of correct binary decisions over all labels at ``threshold``, of ``prediction`` and ``truth`` of each row,
    with weights ``weight`` ``[R, B]``."""
    return mean(((prediction >= threshold) == (truth > 0.5)).double().mean(dim=1), weight)


def label_auroc(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean area under the ROC curve over labels, of ``prediction`` and ``truth`` of each row, with weights ``weight``
    ``[R, B]``."""
    return _over_labels(area, prediction, truth, weight)


def label_average_precision(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean average precision over labels, of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R,
    B]``."""
    return _over_labels(average_area, prediction, truth, weight)


def _over_labels(measure: Measure, prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    labels = zip(prediction.T, truth.T > 0.5, strict=True)
    return torch.stack([measure(score, positive, weight) for score, positive in labels]).nanmean(dim=0)


# Numbers: prediction [B], truth [B].


def mae(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R, B]``."""
    return mean((prediction - truth).abs(), weight)


def rmse(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Root mean squared error ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R, B]``."""
    return mean((prediction - truth).double().square(), weight).sqrt()


def _spread(value: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of products of deviations from the mean. Values near rounding error count as none."""
    total = weight.sum(dim=1).clamp_min(1e-300)
    value, other = value - value.mean(), other - other.mean()
    product = weight @ (value * other)
    result = product - (weight @ value) * (weight @ other) / total
    noise = weight @ (value * other).abs() * 1e-12
    return torch.where(result.abs() > noise, result, 0.0)


def r2(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Coefficient of determination ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R,
    B]``: 1 is perfect, 0 is the mean of these rows."""
    prediction, truth = prediction.double(), truth.double()
    return 1 - ratio(weight @ (prediction - truth).square(), _spread(truth, truth, weight))


def pearson(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Pearson correlation ``[R]`` of ``prediction`` and ``truth`` of each row, with weights ``weight`` ``[R, B]``."""
    x, y = prediction.double(), truth.double()
    below = (_spread(x, x, weight) * _spread(y, y, weight)).sqrt()
    return ratio(_spread(x, y, weight), below).clamp(-1, 1)

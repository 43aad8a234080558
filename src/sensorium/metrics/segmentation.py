"""Segmentation metrics from counts of pixels, and the scorer that keeps those counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from sensorium.core.batch import Batch, Field
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import Task
from sensorium.metrics.weighting import ratio

Counts = Callable[[Tensor, Tensor], Tensor]


def pixel_counts(answered: Tensor, true: Tensor, classes: int) -> Tensor:
    """Count the pixels of each class.

    Args:
        answered: Class indices ``[B, h, w]``.
        true: Class indices ``[B, h, w]``; pixels of ``classes`` and more do not count.
        classes: The number of classes K.

    Returns:
        ``[B, K, 3]`` float32: pixels of a class that are right, answered and true.
    """
    known = true < classes
    row = torch.arange(len(true), device=true.device)[:, None, None] * classes

    def count(values: Tensor, which: Tensor) -> Tensor:
        return torch.bincount((values + row)[which], minlength=len(true) * classes).reshape(len(true), classes)

    right = count(true, known & (answered == true))
    return torch.stack([right, count(answered, known), count(true, known)], dim=2).float()


def iou(counts: Tensor) -> Tensor:
    """Return the intersection over union (Jaccard index) of each class ``[..., K]`` from ``counts`` ``[..., K, 3]``; NaN
    for classes that are neither true nor answered.
    """
    right, answered, true = counts.unbind(-1)
    return ratio(right, answered + true - right)


def dice(counts: Tensor) -> Tensor:
    """Return the Dice coefficient (F1) of each class ``[..., K]`` from ``counts`` ``[..., K, 3]``; NaN for classes that are
    neither true nor answered.
    """
    right, answered, true = counts.unbind(-1)
    return ratio(2 * right, answered + true)


class OverlapScorer(Scorer[Tensor]):
    """Keeps the pixel counts ``[rows, K, 3]`` of every row, and scores all rows together.

    Args:
        task: The scored task.
        compare: Maps an output and the target field to ``pixel_counts``.
        classes: The names of the classes.
        background: The index of the class that is not foreground; None where all are.
    """

    macro = ("mean_iou", "foreground_iou", "mean_dice")

    def __init__(
        self,
        task: Task[Tensor],
        compare: Callable[[Tensor, Field], Tensor],
        classes: Sequence[str],
        background: int | None,
    ) -> None:
        super().__init__()
        self._target, self._compare, self.classes = task.target, compare, list(classes)
        self.foreground = [i for i in range(len(classes)) if i != background]

    def keep(self, output: Tensor, batch: Batch) -> Kept:
        target = self._target(batch)
        if target is None or not bool(target.present.any()):
            return {"counts": torch.zeros(0, len(self.classes), 3)}
        return {"counts": self._compare(output, target)[target.present].cpu()}

    def counts(self, weights: Tensor | None = None) -> Tensor:
        """Return the counts of all rows together ``[R, K, 3]`` float64 under ``weights`` ``[R, rows]``."""
        weights = self.ones() if weights is None else weights
        return torch.einsum("rn,nkc->rkc", weights, self.kept["counts"].double())

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        if self.rows == 0:
            nothing = weights.new_full((len(weights),), torch.nan)
            every = dict.fromkeys(("mean_iou", "foreground_iou", "mean_dice", "pixel_accuracy"), nothing)
        else:
            counts = self.counts(weights)
            by_class = iou(counts)
            every = {
                "mean_iou": by_class.nanmean(dim=1),
                "foreground_iou": by_class[:, self.foreground].nanmean(dim=1),
                "mean_dice": dice(counts)[:, self.foreground].nanmean(dim=1),
                "pixel_accuracy": ratio(counts[:, :, 0].sum(dim=1), counts[:, :, 2].sum(dim=1)),
            }
        return {name: value for name, value in every.items() if names is None or name in names}

    @property
    def varied(self) -> bool:
        return self.rows > 0 and bool((self.kept["counts"][:, :, 2] > 0).any(dim=0).sum() > 1)

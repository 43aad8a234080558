"""What every task that decides between classes shares: indices, shares, measures, answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sensorium.core.batch import Field

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


def class_index(target: Field, classes: int) -> Tensor:
    """Class indices ``[B]``; rows without a target may hold anything, so they are held inside the range."""
    return target.data[:, 0].nan_to_num(0.0).long().clamp(0, classes - 1)


def class_shares(targets: Field, classes: int) -> Tensor:
    """Shares of the classes ``[K]`` with one imagined row a class, so that none is zero."""
    index = targets.data[targets.present][:, 0].long()
    count = torch.bincount(index, minlength=classes).to(torch.get_default_dtype()) + 1
    return count / count.sum()


def class_weights(shares: Tensor, balance: float) -> Tensor:
    """The weight of each class ``[K]``, 1 on average over rows: all alike at ``balance`` 0, rare ones more towards 1."""
    raw = shares.pow(-balance)
    return raw / (raw * shares).sum()


def class_measures() -> MetricCollection:
    """The measures of probabilities ``[B, K]`` against class indices ``[B]``."""
    from sensorium.nn import measures
    from sensorium.nn.tracked import collection

    names = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc", "log_loss", "calibration_error")
    return collection({name: getattr(measures, name) for name in names})


def class_answers(chances: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The likeliest class of each row and the probability of every class, JSON-ready."""
    chances = chances.cpu()
    best = chances.argmax(dim=1).tolist()
    return [
        {"value": classes[k], "probabilities": dict(zip(classes, row, strict=True))}
        for k, row in zip(best, chances.tolist(), strict=True)
    ]

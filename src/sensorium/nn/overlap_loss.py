"""Losses of dense class maps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy_per_row(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the mean cross-entropy over the known pixels of each row, ``[B]``; 0 where none is known.

    Args:
        logits: ``[B, K, h, w]``.
        classes: Class indices ``[B, h, w]`` int64; K and more is unknown.
    """
    known = classes < logits.shape[1]
    each = F.cross_entropy(logits, torch.where(known, classes, -100), ignore_index=-100, reduction="none")
    return each.sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1)


def soft_dice_per_row(logits: Tensor, classes: Tensor) -> Tensor:
    """Return 1 minus the mean soft Dice coefficient of the classes that occur in each row, ``[B]``; 0 where none does.

    Source: V-Net, https://arxiv.org/abs/1606.04797, with the sum of probabilities in the denominator as in
    https://arxiv.org/abs/1608.04117.

    Args:
        logits: ``[B, K, h, w]``.
        classes: Class indices ``[B, h, w]`` int64; K and more is unknown.
    """
    count = logits.shape[1]
    known = classes < count
    chances = logits.float().softmax(dim=1) * known[:, None]
    one_hot = F.one_hot(torch.where(known, classes, count), count + 1)[..., :count].movedim(-1, 1).to(chances)
    right = (chances * one_hot).sum(dim=(2, 3))
    true = one_hot.sum(dim=(2, 3))
    overlap = (2 * right + 1) / (chances.sum(dim=(2, 3)) + true + 1)
    present = (true > 0).to(overlap)
    return ((1 - overlap) * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)

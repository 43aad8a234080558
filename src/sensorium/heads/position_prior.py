"""The mean mask of the training rows: what is known of a mask before its image is looked at."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Field

SIDE, NUMBERS = 32, 8192
"""Largest side of a prior in cells, and most numbers that it may have."""
CHUNK = 16
"""Masks that are averaged at once."""


def prior_side(classes: int) -> int:
    """Return the side in cells of the prior for a number of ``classes``: 32, or fewer for many classes."""
    return max(4, min(SIDE, int((NUMBERS / classes) ** 0.5)))


def position_prior(targets: Iterable[Field], classes: int) -> Tensor:
    """Estimate the log-probability of each class at each place of a mask.

    Args:
        targets: Class indices ``[B, h, w]``; ``classes`` and more is unknown.
        classes: The number of classes K.

    Returns:
        ``[K, side, side]`` float32. As if in addition to the masks one were seen that has every class in equal shares, so
        that no class is impossible anywhere.
    """
    side = prior_side(classes)
    total = torch.full((classes, side, side), 1 / classes)
    for part in targets:
        for codes in torch.split(part.data[part.present], CHUNK):
            one_hot = F.one_hot(codes.long().clamp(max=classes), classes + 1)[..., :classes].movedim(-1, 1).float()
            total += F.adaptive_avg_pool2d(one_hot, side).sum(dim=0).cpu()
    return (total / total.sum(dim=0)).log()

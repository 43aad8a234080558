"""Areas and overlaps of boxes, tensors ``[..., 4]`` of left, top, right, bottom."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-7
"""Added to areas that are divided by."""


def area(boxes: Tensor) -> Tensor:
    """Return the area ``[...]`` of ``boxes`` ``[..., 4]``; 0 where one ends before it begins."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def intersection(one: Tensor, other: Tensor) -> Tensor:
    """Return the area ``[...]`` that ``one`` and ``other`` ``[..., 4]`` share; leading axes broadcast."""
    low = torch.maximum(one[..., :2], other[..., :2])
    high = torch.minimum(one[..., 2:], other[..., 2:])
    return (high - low).clamp(min=0).prod(dim=-1)


def box_iou(one: Tensor, other: Tensor) -> Tensor:
    """Return the intersection over union of every pair, ``[..., n, m]``.

    Args:
        one: ``[..., n, 4]``.
        other: ``[..., m, 4]``.
    """
    shared = intersection(one[..., :, None, :], other[..., None, :, :])
    either = area(one)[..., :, None] + area(other)[..., None, :] - shared
    return shared / either.clamp(min=TINY)


def giou(one: Tensor, other: Tensor) -> Tensor:
    """Return the generalised intersection over union ``[...]``, from -1 to 1: it also measures the
    distance of boxes that do not touch.

    Source: https://arxiv.org/abs/1902.09630.

    Args:
        one: ``[..., 4]``.
        other: ``[..., 4]``.
    """
    shared = intersection(one, other)
    either = area(one) + area(other) - shared
    low = torch.minimum(one[..., :2], other[..., :2])
    high = torch.maximum(one[..., 2:], other[..., 2:])
    hull = (high - low).clamp(min=0).prod(dim=-1)
    return shared / either.clamp(min=TINY) - (hull - either) / hull.clamp(min=TINY)

"""Non-maximum suppression: which to keep of boxes that overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.metrics.box_overlap import box_iou


def kept_boxes(boxes: Tensor, scores: Tensor, classes: Tensor, overlap: float) -> Tensor:
    """Return which boxes non-maximum suppression keeps, ``[n]`` bool: no more confident one of their class overlaps them.

    Args:
        boxes: ``[n, 4]``.
        scores: ``[n]``; ties go to the first.
        classes: ``[n]``.
        overlap: The IoU above which two boxes are taken for one thing.
    """
    order = scores.argsort(descending=True, stable=True)
    rivals = (box_iou(boxes[order], boxes[order]) > overlap) & (classes[order, None] == classes[order])
    rivals = rivals.triu(diagonal=1)
    kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for i in range(len(boxes)):
        kept &= ~(rivals[i] & kept[i])
    return torch.empty_like(kept).index_put((order,), kept)

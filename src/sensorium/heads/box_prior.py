"""A prior of boxes without their image: counts by position, and typical sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Field

SIDE = 12
"""Cells along each side of the prior."""
USUAL = 0.2
"""Width and height of boxes, as a share of the image, where no box is known."""


class BoxPrior(NamedTuple):
    """Statistics of the training boxes.

    Args:
        heat: Log-odds of a centre of each class in each cell ``[K, SIDE, SIDE]``.
        sides: Mean distances of the centre of a box there from its sides, as shares of width and height of the image
            ``[4, SIDE, SIDE]``.
        per_row: Mean number of boxes of a row.
    """

    heat: Tensor
    sides: Tensor
    per_row: float


def box_prior(targets: Iterable[Field], classes: int, of: tuple[int, int]) -> BoxPrior:
    """Estimate where boxes are, as if half a box more of every class were spread over one more image.

    Args:
        targets: Boxes ``[B, n, 6]`` in pixels of the prepared image, as ``modalities/boxes.py`` prepares them.
        classes: The number of classes K.
        of: Height and width of the prepared image.
    """
    cells = SIDE * SIDE
    count = torch.full((classes * cells,), 0.5 / cells)
    size, rows = torch.zeros(2, cells), 0
    for field in targets:
        real = field.present[:, None] & (field.data[..., 5] == 0)
        boxes = field.data[real if field.mask is None else real & field.mask].float().cpu()
        rows += int(field.present.sum())
        share = boxes[:, :4] / boxes.new_tensor([of[1], of[0], of[1], of[0]])
        middle = (share[:, :2] + share[:, 2:]) / 2
        column, row = (middle * SIDE).long().clamp(0, SIDE - 1).unbind(1)
        place = row * SIDE + column
        code = boxes[:, 4].long().clamp(0, classes - 1)
        count.index_add_(0, code * cells + place, torch.ones(len(boxes)))
        size.index_add_(1, place, (share[:, 2:] - share[:, :2]).T)
    number = count.reshape(classes, cells).sum(dim=0)
    boxes_seen = float(number.sum()) - 0.5 * classes
    usual = size.sum(dim=1) / boxes_seen if boxes_seen > 0.5 else torch.full((2,), USUAL)
    # Cells with few boxes take after those around them, and after all.
    near = [F.avg_pool2d(part.reshape(1, -1, SIDE, SIDE), 3, 1, 1)[0] for part in (size, number)]
    wide, high = ((near[0] + 0.1 * usual[:, None, None]) / (near[1] + 0.1)).unbind(0)
    heat = (count.reshape(classes, SIDE, SIDE) / (rows + 1)).clamp(1e-4, 0.99).logit()
    sides = torch.stack([wide, high, wide, high]) / 2
    return BoxPrior(heat, sides, max(1.0, boxes_seen / max(rows, 1)))

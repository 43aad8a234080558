"""What a detector is to answer for every cell of its map, and its loss: heat of centres, and distances to the sides."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.metrics.box_overlap import area, giou

INNER = 0.54
"""The share of a box, along each side, whose cells learn its sides."""
LEAST_HEAT = 0.01
"""Cells of less heat learn no sides."""
SEEN = 0.3
"""Boxes of which augmentation left less than this share inside the image are neither learnt nor held against an answer."""
LOW, HIGH = 2.0, 4.0
"""Exponents of the focal loss: of an error, and of the distance from a centre."""
_NUMBERS = 4_000_000
"""Most numbers of boxes and cells that are held at once."""


class BoxTargets(NamedTuple):
    """What is true of each cell of a map of ``h`` × ``w``.

    Args:
        heat: 1 in the cell of the centre of a box, falling off around it ``[B, K, h, w]``.
        weight: How much the sides of the cell's box count; 1 over all cells of a box ``[B, h, w]``.
        corners: The box to which a cell belongs, in pixels of the prepared image ``[B, 4, h, w]``.
        unknown: Cells in boxes to be ignored ``[B, h, w]``.
    """

    heat: Tensor
    weight: Tensor
    corners: Tensor
    unknown: Tensor


def cell_centres(size: tuple[int, int], of: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the horizontal ``[w]`` and vertical ``[h]`` places of the middles of a map's cells, in pixels of the image.

    Args:
        size: Height and width of the map.
        of: Height and width of the image.
        like: Tensor whose device is used.
    """
    y, x = ((torch.arange(n, device=like.device) + 0.5) * (whole / n) for n, whole in zip(size, of, strict=True))
    return x, y


@torch.no_grad()
def box_targets(boxes: Tensor, real: Tensor, classes: int, size: tuple[int, int], of: tuple[int, int]) -> BoxTargets:
    """Draw the boxes of each row on its map.

    Every box is a Gaussian as wide as itself, as in TTFNet (https://arxiv.org/abs/1909.00700); where boxes lie over each
    other, a cell belongs to the smallest.

    Args:
        boxes: ``[B, n, 6]``: left, top, right, bottom in pixels of the prepared image, class, 1 where ignored.
        real: Which are boxes ``[B, n]``.
        classes: The number of classes K.
        size: Height and width of the map.
        of: Height and width of the prepared image.
    """
    rows, count = real.shape
    boxes = torch.where(real[..., None], boxes.float(), torch.zeros_like(boxes, dtype=torch.float32))
    edge = boxes.new_tensor([of[1], of[0], of[1], of[0]])
    corners = boxes[..., :4].clamp(min=0).minimum(edge)
    seen = area(corners) >= SEEN * area(boxes[..., :4]).clamp(min=1e-6)
    off = real & ((boxes[..., 5] > 0) | ~seen)
    code = boxes[..., 4].long()
    real = real & ~off & (code >= 0) & (code < classes)
    step = boxes.new_tensor([of[1] / size[1], of[0] / size[0]])
    middle = ((corners[..., :2] + corners[..., 2:]) / 2 / step).floor()  # the cell of the centre
    middle = middle.minimum(boxes.new_tensor([size[1] - 1, size[0] - 1]))
    spread = (INNER * (corners[..., 2:] - corners[..., :2]) / step + 1) / 6
    x, y = torch.arange(size[1], device=boxes.device), torch.arange(size[0], device=boxes.device)
    px, py = cell_centres(size, of, boxes)
    heat = boxes.new_zeros(rows, classes, *size)
    weight, nearest = boxes.new_zeros(rows, *size), boxes.new_full((rows, *size), torch.inf)
    target = boxes.new_zeros(rows, 4, *size)
    unknown = torch.zeros(rows, *size, dtype=torch.bool, device=boxes.device)
    few = max(1, _NUMBERS // max(1, rows * size[0] * size[1]))
    for start in range(0, count, few):
        part = slice(start, start + few)
        across = (-((x - middle[:, part, :1]) ** 2) / (2 * spread[:, part, :1] ** 2)).exp()  # [B, n, w]
        down = (-((y - middle[:, part, 1:]) ** 2) / (2 * spread[:, part, 1:] ** 2)).exp()
        glow = down[..., :, None] * across[..., None, :] * real[:, part, None, None]  # [B, n, h, w]
        index = code[:, part].clamp(0, classes - 1)[..., None, None].expand_as(glow)
        heat.scatter_reduce_(1, index, glow, "amax")
        known = glow >= LEAST_HEAT
        each = torch.where(known, glow, 0.0)
        each = each / each.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
        small, which = torch.where(known, area(corners[:, part])[..., None, None], torch.inf).min(dim=1)
        closer = small < nearest
        nearest = torch.where(closer, small, nearest)
        weight = torch.where(closer, each.gather(1, which[:, None])[:, 0], weight)
        own = corners[:, part].transpose(1, 2).gather(2, which.flatten(1)[:, None].expand(-1, 4, -1))
        target = torch.where(closer[:, None], own.reshape(rows, 4, *size), target)
        left, top, right, bottom = corners[:, part].unbind(2)
        wide = (px >= left[..., None]) & (px <= right[..., None]) & off[:, part, None]
        high = (py >= top[..., None]) & (py <= bottom[..., None])
        unknown |= (high[..., :, None] & wide[..., None, :]).any(dim=1)
    return BoxTargets(heat, weight, target, unknown)


def corners_of(sides: Tensor, of: tuple[int, int]) -> Tensor:
    """Return the box that each cell of a map answers, ``[B, 4, h, w]``: left, top, right, bottom in pixels of the image.

    Args:
        sides: Distances from the middle of the cell to the left, top, right and bottom ``[B, 4, h, w]``.
        of: Height and width of the prepared image.
    """
    x, y = cell_centres((sides.shape[2], sides.shape[3]), of, sides)
    left, top, right, bottom = sides.unbind(1)
    return torch.stack([x - left, y[:, None] - top, x + right, y[:, None] + bottom], dim=1)


def focal_loss(logits: Tensor, heat: Tensor, unknown: Tensor) -> Tensor:
    """Return the focal loss of centres, summed over the cells and classes of each row ``[B]``.

    Cells close to a centre count less against an answer there. Source: https://arxiv.org/abs/1808.01244, equation 1.

    Args:
        logits: ``[B, K, h, w]``.
        heat: As in ``BoxTargets``.
        unknown: Cells that count only where a centre is ``[B, h, w]``.
    """
    logits = logits.float()
    chance = logits.sigmoid()
    centre = heat > 1 - 1e-6
    positive = -F.logsigmoid(logits) * (1 - chance) ** LOW
    negative = -F.logsigmoid(-logits) * chance**LOW * (1 - heat) ** HIGH * ~unknown[:, None]
    return torch.where(centre, positive, negative).sum(dim=(1, 2, 3))


def side_loss(sides: Tensor, targets: BoxTargets, of: tuple[int, int]) -> Tensor:
    """Return the weighted sum of ``1 - GIoU`` over the cells of each row ``[B]``.

    Args:
        sides: ``[B, 4, h, w]``.
        targets: What is true.
        of: Height and width of the prepared image.
    """
    answered = corners_of(sides.float(), of).movedim(1, -1)
    off = 1 - giou(answered, targets.corners.movedim(1, -1))
    return (off * targets.weight).sum(dim=(1, 2))

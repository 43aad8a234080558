"""From the maps of a detector to boxes, in pixels of the prepared image and of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Field
from sensorium.core.modality import Array
from sensorium.heads.box_targets import corners_of
from sensorium.heads.suppression import kept_boxes
from sensorium.metrics.detection import MOST, BoxSet
from sensorium.signal.geometry import boxes as moved_boxes
from sensorium.signal.geometry import inverse

FAINT = 0.005
"""Peaks of less heat are no boxes."""


class BoxWriter(Protocol):
    """What a task needs of the modality of its boxes, as ``modalities/boxes.py`` has it."""

    def answer(self, corners: Array, size: tuple[float, float]) -> list[float]:
        """The four numbers of a box with these ``corners`` on an image of ``size``, written as the training boxes are."""

    def corners(self, box: Sequence[float], size: tuple[float, float]) -> list[float]:
        """Left, top, right and bottom in pixels of a ``box`` that ``answer`` wrote for an image of ``size``."""


@torch.no_grad()
def peak_boxes(heat: Tensor, sides: Tensor, of: tuple[int, int], overlap: float) -> list[BoxSet]:
    """Return the boxes at the peaks of each row's map, the most confident first, in pixels of the prepared image.

    Args:
        heat: Log-odds of a centre ``[B, K, h, w]``.
        sides: Distances to the sides of the box ``[B, 4, h, w]``.
        of: Height and width of the prepared image.
        overlap: As in ``kept_boxes``.
    """
    return [boxes for boxes, _ in peaks_of(heat, sides, of, overlap)]


@torch.no_grad()
def peaks_of(heat: Tensor, sides: Tensor, of: tuple[int, int], overlap: float) -> list[tuple[BoxSet, Tensor]]:
    """Return the boxes of ``peak_boxes`` of each row, and the cell ``[n]`` of the map that each has its centre in.

    Args:
        heat: As in ``peak_boxes``.
        sides: As in ``peak_boxes``.
        of: As in ``peak_boxes``.
        overlap: As in ``peak_boxes``.
    """
    chance = heat.detach().float().sigmoid()
    peaks = torch.where(F.max_pool2d(chance, 3, 1, 1) == chance, chance, 0.0).flatten(1)
    scores, at = peaks.topk(min(MOST, peaks.shape[1]), dim=1)
    cells = chance.shape[2] * chance.shape[3]
    code, place = at // cells, at % cells
    corners = corners_of(sides.detach().float(), of).flatten(2)  # [B, 4, h·w]
    boxes = corners.gather(2, place[:, None].expand(-1, 4, -1)).transpose(1, 2)
    result: list[tuple[BoxSet, Tensor]] = []
    for *fields, cell in zip(boxes.cpu(), code.cpu(), scores.cpu(), place.cpu(), strict=True):
        strong = fields[2] >= FAINT
        seen = BoxSet(*(part[strong] for part in fields))
        keep = kept_boxes(seen.boxes, seen.scores, seen.classes, overlap)
        result.append((BoxSet(*(part[keep] for part in seen)), cell[strong][keep]))
    return result


def in_user_pixels(detections: BoxSet, image: Field | None, row: int, of: tuple[int, int]) -> BoxSet:
    """Return boxes in pixels of the user's image, cropped at its edges; boxes without an area are left out.

    Args:
        detections: Boxes in pixels of the prepared image.
        image: The prepared images, with frame and extent; None, or without them: boxes are only cut at the edges.
        row: The row among them.
        of: Height and width of the prepared image.
    """
    boxes = detections.boxes
    wide, high = image_size(image, row, of)
    if image is not None and image.frame is not None and bool(image.present[row]):
        boxes = moved_boxes(inverse(image.frame[row : row + 1].float().cpu()), boxes[None])[0]
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([wide, high, wide, high]))
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return BoxSet(boxes[keep], detections.classes[keep], detections.scores[keep])


def image_size(image: Field | None, row: int, of: tuple[int, int]) -> tuple[float, float]:
    """Return the width and height of the user's image.

    Args:
        image: The prepared images, with extents; None: the size of the prepared one is taken.
        row: The row among them; likewise where it has no image.
        of: Height and width of the prepared image.
    """
    if image is None or image.extent is None or not bool(image.present[row]):
        return float(of[1]), float(of[0])
    wide, high = image.extent[row].tolist()
    return wide, high


def true_boxes(target: Field, row: int) -> BoxSet:
    """Return the boxes of a prepared ``target`` in ``row``, as its image was prepared; those to be ignored score 1."""
    data = target.data[row].detach().float().cpu()
    real = torch.ones(len(data), dtype=torch.bool) if target.mask is None else target.mask[row].cpu()
    return BoxSet(data[real, :4], data[real, 4].long(), data[real, 5])

"""What a report shows of boxes: a table of the classes, curves, and the best, worst and least certain images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.report_views import Cell, Gallery, Lines, Picture, Table, View
from sensorium.core.scorer import Kept
from sensorium.heads.detection import in_user_pixels
from sensorium.heads.segmentation_views import COLOURS, LEAST_SIDE, SHOWN, in_grey
from sensorium.metrics.detection import BoxSet, DetectionScorer
from sensorium.metrics.weighting import ratio

CURVES = 10
"""Most classes with a curve: those with the most boxes."""
POINTS = 60
"""Most points of a curve."""
Pixels = NDArray[np.uint8]
Finds = Callable[[dict[str, Tensor], Batch], tuple[list[int], list[BoxSet], list[BoxSet]]]


class Example(NamedTuple):
    """A scored image.

    Args:
        order: What it is sorted by, the first to be shown lowest.
        caption: Its scores in words.
        picture: The true boxes and the answered ones drawn side by side ``[H, W, 3]``.
    """

    order: float
    caption: str
    picture: Pixels


class ShownScorer(DetectionScorer):
    """A ``DetectionScorer`` that also keeps a few images to show, never more than ``SHOWN`` of each sort.

    Args:
        find: Maps an output and a batch to the rows with a target, and their answers and true boxes in pixels of the
            prepared image.
        classes: The names of the classes.
        threshold: The score from which on a box is answered.
        on: The stream of the images.
        of: Height and width of the prepared image.
    """

    def __init__(self, find: Finds, classes: Sequence[str], threshold: float, on: str, of: tuple[int, int]) -> None:
        super().__init__(classes, threshold)
        self._find, self.on, self.of = find, on, of
        self.examples: dict[str, list[Example]] = {"Worst": [], "Least certain": [], "Best": []}

    def keep(self, output: dict[str, Tensor], batch: Batch) -> Kept:
        rows, answers, truths = self._find(output, batch)
        image = batch.inputs.get(self.on)
        # A hidden image has its frame still: its boxes are compared where they would be.
        whole = None if image is None else replace(image, present=torch.ones_like(image.present))
        kept = self.kept_of(
            [
                (in_user_pixels(answer, whole, row, self.of), in_user_pixels(truth, whole, row, self.of))
                for row, answer, truth in zip(rows, answers, truths, strict=True)
            ]
        )
        for i, row in enumerate(rows):
            if image is None or image.data.dim() != 4 or not bool(image.present[row]):
                continue
            sure = kept["scores"][i] >= self.threshold
            right = int(((kept["right"][i] & 1).bool() & ~(kept["ignored"][i] & 1).bool() & sure).sum())
            answered, true = int(sure.sum()), int(kept["true"][i, :, 0].sum())
            f1 = 2 * right / (answered + true) if answered + true else 1.0
            certain = certainty(kept["scores"][i][sure], kept["scores"][i])
            caption = f"{right} of {true} found, {answered - right} too many, confidence {certain:.2f}"
            for sort, order in (("Worst", f1), ("Least certain", certain), ("Best", -f1)):
                self._offer(sort, order, caption, image.data[row], answers[i], truths[i])
        return kept

    def _offer(self, sort: str, order: float, caption: str, image: Tensor, answer: BoxSet, truth: BoxSet) -> None:
        shown = self.examples[sort]
        if len(shown) == SHOWN and order >= shown[-1].order:
            return
        sure = answer.scores >= self.threshold
        answer = BoxSet(answer.boxes[sure], answer.classes[sure], answer.scores[sure])
        grey = in_grey(image)
        drawn = [with_boxes(grey, boxes) for boxes in (truth, answer)]
        gap = np.full((drawn[0].shape[0], 4, 3), 255, np.uint8)
        shown.append(Example(order, caption, np.concatenate([drawn[0], gap, drawn[1]], axis=1)))
        shown.sort(key=lambda example: example.order)
        del shown[SHOWN:]


def certainty(answered: Tensor, every: Tensor) -> float:
    """Return the confidence of an answer, from 0 to 1: the mean score of its boxes; without any, that the image has none.

    Args:
        answered: Scores of the answered boxes.
        every: Scores of all boxes that were considered.
    """
    if len(answered):
        return float(answered.mean())
    return 1.0 - (float(every.max()) if len(every) else 0.0)


def with_boxes(picture: Pixels, detections: BoxSet) -> Pixels:
    """Return a picture, enlarged where it is small, with the outlines of boxes in the colours of their classes.

    Args:
        picture: ``[h, w]`` in grey.
        detections: Boxes in its pixels.

    Returns:
        ``[H, W, 3]``.
    """
    times = max(1, round(2 * LEAST_SIDE / max(picture.shape)))
    canvas = np.repeat(picture[..., None], 3, axis=2).repeat(times, axis=0).repeat(times, axis=1)
    high, wide = canvas.shape[:2]
    for box, code in zip((detections.boxes * times).round().long().tolist(), detections.classes.tolist(), strict=True):
        left, right = (min(max(x, 0), wide - 1) for x in (box[0], box[2] - 1))
        top, bottom = (min(max(y, 0), high - 1) for y in (box[1], box[3] - 1))
        colour = COLOURS[code % len(COLOURS)]
        canvas[[top, bottom], left : right + 1] = colour
        canvas[top : bottom + 1, [left, right]] = colour
    return canvas


def detection_views(scorer: DetectionScorer) -> list[View]:
    """Return the table of the classes, their curves, and the images that ``scorer`` kept, if any."""
    precision, recall = (values[0] for values in scorer.precisions(scorer.ones()))
    answered, true = (count.sum(dim=0) for count in scorer.counts())
    right = torch.zeros(len(scorer.classes), dtype=torch.float64)
    wrong = torch.zeros_like(right)
    curves: list[tuple[str, list[tuple[float, float]]]] = []
    often = set(true.argsort(descending=True, stable=True)[:CURVES].tolist())
    for code, name in enumerate(scorer.classes):
        _, scores, hit, ignored = scorer.answers_of(code)
        counted = ~ignored[0, 0]
        sure = (scores >= scorer.threshold) & counted
        right[code], wrong[code] = (hit[0, 0] & sure).sum(), (~hit[0, 0] & sure).sum()
        if code in often and int(true[code]):
            hits = (hit[0, 0] & counted).cumsum(dim=0)
            exact = hits / (counted.cumsum(dim=0)).clamp(min=1)
            step = max(1, len(hits) // POINTS)
            line = zip((hits / true[code])[::step].tolist(), exact[::step].tolist(), strict=True)
            curves.append((name, list(line)))
    columns = {
        "AP": precision.mean(dim=1),
        "AP50": precision[:, 0],
        "AP75": precision[:, 5],
        "highest recall": recall[:, 0],
        "precision": ratio(right, right + wrong),
        "recall": ratio(right, true.double()),
    }
    rows: list[dict[str, Cell]] = [
        {
            "class": name,
            **{key: float(values[i]) for key, values in columns.items()},
            "true": int(true[i]),
            "answered": int(answered[i]),
        }
        for i, name in enumerate(scorer.classes)
    ]
    note = (
        f"AP: COCO's, over ten overlaps; AP50, AP75: at an IoU of .5, .75; precision and recall at IoU .5 of boxes with a \
score of {scorer.threshold:g} or more."
    )
    views: list[View] = [Table("per_class", "Each class", note, rows=rows)]
    if curves:
        caption = "At an IoU of .5, from the most confident box on."
        views.append(Lines("precision_recall", "Precision and recall", caption, lines=curves, x="recall", y="precision"))
    if isinstance(scorer, ShownScorer):
        for sort, examples in scorer.examples.items():
            pictures = [Picture(one.picture, one.caption) for one in examples]
            if pictures:
                name = sort.lower().replace(" ", "_")
                caption = "Left the true boxes, right the answered ones, a colour for each class."
                views.append(Gallery(name, f"{sort} images", caption, pictures=pictures))
    return views

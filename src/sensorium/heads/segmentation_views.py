"""What a report shows of masks: a table of the classes, and the best, worst and least certain images with both masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Batch, Field
from sensorium.core.report_views import Cell, Gallery, Picture, Table, View
from sensorium.core.scorer import Kept
from sensorium.core.task import Task
from sensorium.heads.segmentation import resized
from sensorium.metrics.segmentation import OverlapScorer, dice, iou
from sensorium.metrics.weighting import ratio

SHOWN = 4
"""Images shown of each sort."""
LEAST_SIDE = 128
"""Smaller images are enlarged to about this side."""
COLOURS = (
    *((230, 85, 13), (49, 130, 189), (49, 163, 84), (197, 27, 138), (255, 200, 40), (94, 60, 153), (0, 160, 160)),
    *((150, 75, 30), (120, 190, 30), (90, 90, 90)),
)
"""Colours of the classes other than the background; from the eleventh on they recur."""
Pixels = NDArray[np.uint8]


class Example(NamedTuple):
    """A scored image, small.

    Args:
        order: What it is sorted by, the first to be shown lowest.
        caption: Its scores in words.
        picture: The image ``[h, w]`` in grey.
        true: True class indices ``[h, w]``; those of no class are unknown.
        answered: The answer, likewise.
    """

    order: float
    caption: str
    picture: Pixels
    true: Pixels
    answered: Pixels


class ExampleScorer(OverlapScorer):
    """An ``OverlapScorer`` that also keeps a few images to show, never more than ``SHOWN`` of each sort.

    Args:
        task: The scored task.
        compare: Maps an output and the target field to pixel counts.
        classes: The names of the classes.
        background: The index of the class that is not foreground; None where all are.
        on: The stream of the images.
    """

    def __init__(
        self,
        task: Task[Tensor],
        compare: Callable[[Tensor, Field], Tensor],
        classes: Sequence[str],
        background: int | None,
        on: str,
    ) -> None:
        super().__init__(task, compare, classes, background)
        self.background, self.on = background, on
        self.examples: dict[str, list[Example]] = {"Worst": [], "Least certain": [], "Best": []}

    def keep(self, output: Tensor, batch: Batch) -> Kept:
        kept = super().keep(output, batch)
        target, image = self._target(batch), batch.inputs.get(self.on)
        if target is None or image is None or image.data.dim() != 4:
            return kept
        rows = target.present.nonzero()[:, 0].tolist()
        overlap = iou(kept["counts"].double())[:, self.foreground].nanmean(dim=1)
        certain = output.detach().float().softmax(dim=1).amax(dim=1).mean(dim=(1, 2))
        for row, score in zip(rows, overlap.tolist(), strict=True):
            if not bool(image.present[row]) or score != score:
                continue
            sure = float(certain[row])
            caption = f"IoU {score:.2f}, confidence {sure:.2f}"
            for sort, order in (("Worst", score), ("Least certain", sure), ("Best", -score)):
                self._offer(sort, order, caption, output[row], target.data[row], image.data[row])
        return kept

    def _offer(self, sort: str, order: float, caption: str, logits: Tensor, true: Tensor, image: Tensor) -> None:
        shown = self.examples[sort]
        if len(shown) == SHOWN and order >= shown[-1].order:
            return
        size = (int(image.shape[1]), int(image.shape[2]))
        truth = F.interpolate(true[None, None].float(), size, mode="nearest")[0, 0].to(torch.uint8).cpu().numpy()
        shown.append(Example(order, caption, in_grey(image), truth, class_codes(logits, size)))
        shown.sort(key=lambda example: example.order)
        del shown[SHOWN:]


def in_grey(image: Tensor) -> Pixels:
    """Return a prepared ``image`` ``[C, h, w]`` in grey, from its darkest to its lightest pixel, ``[h, w]``."""
    grey = image.detach().float().mean(dim=0)
    grey = (grey - grey.min()) / (grey.max() - grey.min()).clamp(min=1e-6)
    pixels: Pixels = (grey * 255).to(torch.uint8).cpu().numpy()
    return pixels


def class_codes(logits: Tensor, size: tuple[int, int]) -> Pixels:
    """Return the most probable class of each pixel from ``logits`` ``[K, h, w]``, at another ``size``."""
    codes: Pixels = resized(logits[None].detach().float(), size)[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
    return codes


def segmentation_views(scorer: OverlapScorer) -> list[View]:
    """Return the table of the classes, and the images that ``scorer`` kept, if any."""
    counts = scorer.counts()[0]
    right, answered, true = counts.unbind(1)
    columns = {
        "IoU": iou(counts),
        "dice": dice(counts),
        "precision": ratio(right, answered),
        "recall": ratio(right, true),
        "share": ratio(true, true.sum()),
    }
    rows: list[dict[str, Cell]] = [
        {
            "class": name,
            **{key: float(values[i]) for key, values in columns.items()},
            "rows": int((scorer.kept["counts"][:, i, 2] > 0).sum()),
        }
        for i, name in enumerate(scorer.classes)
    ]
    note = "Pixels of all rows together; share: of the true pixels; rows: those in which the class occurs."
    views: list[View] = [Table("per_class", "Each class", note, rows=rows, words={"dice": "Dice"})]
    if isinstance(scorer, ExampleScorer):
        for sort, examples in scorer.examples.items():
            pictures = [Picture(side_by_side(one, scorer.background), one.caption) for one in examples]
            if pictures:
                name = sort.lower().replace(" ", "_")
                views.append(Gallery(name, f"{sort} images", "Left the true mask, right the answer.", pictures=pictures))
    return views


def side_by_side(example: Example, background: int | None) -> Pixels:
    """Return the image of ``example`` twice, with the true mask and with the answer, ``[H, W, 3]``.

    Args:
        example: The image.
        background: The index of the class that is not coloured.
    """
    times = max(1, round(LEAST_SIDE / max(example.picture.shape)))
    drawn = [overlaid(example.picture, codes, background) for codes in (example.true, example.answered)]
    gap = np.full((drawn[0].shape[0], 2, 3), 255, np.uint8)
    whole = np.concatenate([drawn[0], gap, drawn[1]], axis=1)
    return whole.repeat(times, axis=0).repeat(times, axis=1)


def overlaid(picture: Pixels, codes: Pixels, background: int | None, opacity: float = 0.5) -> Pixels:
    """Return ``picture`` with the classes of its pixels as colours, ``[H, W, 3]``.

    Args:
        picture: ``[H, W]`` or ``[H, W, 3]``.
        codes: Class indices ``[H, W]``; 255 is unknown and not coloured.
        background: The index of the class that is not coloured.
        opacity: Of the colours, from 0 to 1.
    """
    base = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
    colours = np.array(COLOURS, np.float64)[(codes.astype(np.int64) - (background is not None)) % len(COLOURS)]
    cover = np.where((codes == 255) | (codes == (-1 if background is None else background)), 0.0, opacity)[..., None]
    mixed: Pixels = (base * (1 - cover) + colours * cover).round().astype(np.uint8)
    return mixed

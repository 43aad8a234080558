"""Report views of edges: precision and recall, and the best, worst and least certain images with both maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.batch import Batch, Field
from sensorium.core.report_views import Curve, Gallery, Picture, Table, View
from sensorium.core.scorer import Kept
from sensorium.heads.edges import sized, thin_lines
from sensorium.heads.segmentation_views import LEAST_SIDE, SHOWN, in_grey
from sensorium.metrics.edges import EdgeScorer, edge_counts, f_score, precision_recall
from sensorium.signal.edges import suppressed

TRUE, ANSWERED = (49, 163, 84), (230, 85, 13)
"""Colours of true and answered edges."""
Pixels = NDArray[np.uint8]
Maps = dict[str, Tensor]


class Example(NamedTuple):
    """A scored image, small.

    Args:
        order: Sort key; the lowest is shown first.
        caption: Its scores in words.
        pixels: The image twice, with the true edges and with the answer ``[h, w, 3]``.
    """

    order: float
    caption: str
    pixels: Pixels


class ShownEdgeScorer(EdgeScorer):
    """An ``EdgeScorer`` on prepared images that also keeps up to ``SHOWN`` examples of each category.

    Args:
        target: Gives the true maps ``[B, A, h, w]`` of a batch.
        levels: The thresholds.
        distance: Largest distance of two matched pixels, as a share of the diagonal of the image.
        on: The stream of the images.
    """

    def __init__(self, target: Callable[[Batch], Field | None], levels: Sequence[float], distance: float, on: str) -> None:
        super().__init__(self._counted, levels)
        self._target, self.distance, self.on = target, distance, on
        self.examples: dict[str, list[Example]] = {"Worst": [], "Least certain": [], "Best": []}

    def _counted(self, output: Maps, batch: Batch) -> tuple[list[int], Tensor]:
        target = self._target(batch)
        rows: list[int] = [] if target is None else target.present.nonzero()[:, 0].tolist()
        if target is None or not rows:
            return [], torch.zeros(0, len(self.levels), 4)
        size = (int(target.data.shape[2]), int(target.data.shape[3]))
        true = target.data[rows].cpu().numpy()
        strength = suppressed(sized(output["edges"][rows].detach().float().sigmoid(), size)).cpu().numpy()
        strength = np.where((true <= 1).any(axis=1), strength, 0)  # nothing is known outside the original
        reach = self.distance * float(np.hypot(*size))
        counts = [edge_counts(row, maps == 1, self.levels, reach) for row, maps in zip(strength, true, strict=True)]
        return rows, torch.from_numpy(np.stack(counts))

    def keep(self, output: Maps, batch: Batch) -> Kept:
        rows, counts = self._counted(output, batch)
        target, image = self._target(batch), batch.inputs.get(self.on)
        if target is None or image is None or image.data.dim() != 4:
            return {"counts": counts}
        f_scores = f_score(counts.double())
        for row, scores in zip(rows, f_scores, strict=True):
            if not bool(image.present[row]):
                continue
            best = int(scores.argmax())
            score, sure = float(scores[best]), certainty(output["edges"][row])
            caption = f"F {score:.2f}, confidence {sure:.2f}"
            for sort, order in (("Worst", score), ("Least certain", sure), ("Best", -score)):
                shown = self.examples[sort]
                if len(shown) == SHOWN and order >= shown[-1].order:
                    continue
                drawn = beside(image.data[row], target.data[row], output["edges"][row], self.levels[best])
                shown.append(Example(order, caption, drawn))
                shown.sort(key=lambda example: example.order)
                del shown[SHOWN:]
        return {"counts": counts}


def certainty(logits: Tensor) -> float:
    """Return how far the probabilities of ``logits`` ``[h, w]`` are from 0.5 on the crests of its edges, scaled to 0 to
    1."""
    chances = logits.detach().float().sigmoid()
    crests = suppressed(chances[None])[0]
    likely = crests[crests > 0.1]
    return float((2 * likely - 1).abs().mean()) if len(likely) else float((1 - 2 * chances).abs().mean())


def beside(image: Tensor, true: Tensor, logits: Tensor, level: float) -> Pixels:
    """Return a prepared image twice, with the true edges and with the answered ones, ``[H, W, 3]``.

    Args:
        image: ``[C, h, w]``.
        true: Maps of the annotators ``[A, h, w]``; the more annotators drew a pixel, the stronger it is shown.
        logits: The answer.
        level: Least strength of answered edges.
    """
    grey = in_grey(image)
    known = (true <= 1).sum(dim=0).clamp(min=1)
    share = ((true == 1).sum(dim=0) / known).float()
    answer = thin_lines(sized(logits[None].detach().float().sigmoid(), grey.shape), level)[0]
    wanted = sized(share[None], grey.shape)[0].cpu().numpy()
    drawn = [with_edges(grey, wanted, TRUE), with_edges(grey, (answer > 0).astype(np.float32), ANSWERED)]
    gap = np.full((drawn[0].shape[0], 2, 3), 255, np.uint8)
    times = max(1, round(LEAST_SIDE / max(grey.shape)))
    return np.concatenate([drawn[0], gap, drawn[1]], axis=1).repeat(times, axis=0).repeat(times, axis=1)


def with_edges(picture: Pixels, cover: NDArray[np.float32], colour: tuple[int, int, int]) -> Pixels:
    """Return ``picture`` ``[h, w]`` with edges in ``colour``, ``[h, w, 3]``; ``cover`` ``[h, w]`` is their opacity."""
    base = np.repeat(picture[..., None], 3, axis=2).astype(np.float64)
    opacity = cover[..., None]
    mixed: Pixels = (base * (1 - opacity) + np.array(colour) * opacity).round().astype(np.uint8)
    return mixed


def edge_views(scorer: EdgeScorer) -> list[View]:
    """Return precision and recall at the thresholds of ``scorer`` as a curve and a table, and the images it kept."""
    totals = scorer.totals()[0]
    precision, recall = (part.tolist() for part in precision_recall(totals))
    scores = f_score(totals).tolist()
    points = [
        {"threshold": level, "recall": r, "precision": p, "F": score}
        for level, r, p, score in zip(scorer.levels, recall, precision, scores, strict=True)
    ]
    note = "Edges of all rows together, thinned and matched one to one, at thresholds from high to low."
    views: list[View] = [
        Curve("precision_recall", "Precision and recall", note, points=points[::-1], x="recall", y="precision"),
        Table("per_threshold", "Each threshold", "An edge is a crest at least as probable.", rows=points),
    ]
    for sort, examples in getattr(scorer, "examples", {}).items():
        pictures = [Picture(example.pixels, example.caption) for example in examples]
        if pictures:
            name = sort.lower().replace(" ", "_")
            note = "Left the true edges, right the answer at the best threshold of the image."
            views.append(Gallery(name, f"{sort} images", note, pictures=pictures))
    return views

"""How answers on key points are scored, row by row, and what a report shows of them: each point, and images with both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.batch import Batch, Field
from sensorium.core.report_views import Cell, Gallery, Lines, Picture, Table, View
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import Task
from sensorium.heads.keypoints import Poses
from sensorium.heads.segmentation_views import in_grey
from sensorium.metrics.keypoints import (
    average_precision,
    box_size,
    mean_distance,
    normalised_error,
    pck,
    similarity,
    spreads,
)

SHOWN = 4
"""Images shown of each sort."""
LEAST_SIDE = 240
"""Smaller images are enlarged to about this side."""
TRUE, ANSWERED = (49, 163, 84), (230, 85, 13)
"""Colours of true and answered points."""
STEPS = 40
"""Distances at which the share of found points is drawn."""
METRICS = ("mean_error", "pck", "nme", "oks_ap")
Pixels = NDArray[np.uint8]


class Example(NamedTuple):
    """A scored image, small.

    Args:
        order: What it is sorted by, the first to be shown lowest.
        caption: Its scores in words.
        picture: With the true and the answered points drawn ``[h, w, 3]``.
    """

    order: float
    caption: str
    picture: Pixels


class PointScorer(Scorer[Poses]):
    """Keeps the distance of every point in pixels, and a few images to show, never more than ``SHOWN`` of each sort.

    Args:
        task: The scored task.
        answered: Maps an output to the answered places in the user's units ``[B, K, 2]`` and their confidence ``[B, K]``.
        in_pixels: Maps a batch to the pixels per unit of the user ``[B, 2]`` and the longer side of its images ``[B]``.
        names: The names of the points.
        within: Distance in pixels up to which a point counts as found; None: a 64th of the longer side of the image.
        on: The stream of the images; None where there is none.
    """

    def __init__(
        self,
        task: Task[Poses],
        answered: Callable[[Poses], tuple[Tensor, Tensor]],
        in_pixels: Callable[[Batch], tuple[Tensor, Tensor]],
        names: Sequence[str],
        within: float | None,
        on: str | None,
    ) -> None:
        super().__init__()
        self._target, self._answered, self._in_pixels = task.target, answered, in_pixels
        self.names, self.within, self.on = list(names), within, on
        self.spreads = spreads(names)
        self.examples: dict[str, list[Example]] = {"Worst": [], "Least certain": [], "Best": []}

    def keep(self, output: Poses, batch: Batch) -> Kept:
        target = self._target(batch)
        if target is None or not bool(target.present.any()):
            return {"distance": torch.zeros(0, len(self.names)), "true": torch.zeros(0, len(self.names), 3)}
        places, sure = self._answered(output)
        true = target.data[..., 3:].to(places)
        scale, side = (part.to(places) for part in self._in_pixels(batch))
        scale = scale[:, None]
        distance = ((places - true[..., :2]) * scale).square().sum(dim=2).sqrt()
        in_pixels = torch.cat([true[..., :2] * scale, true[..., 2:]], dim=2)
        kept: Kept = {
            "distance": distance,
            "true": in_pixels,
            "confidence": sure.mean(dim=1),
            "within": side / 64 if self.within is None else torch.full_like(side, self.within),
        }
        kept = {name: value[target.present].detach().float().cpu() for name, value in kept.items()}
        self._show(output, batch, target, places, kept)
        return kept

    def _show(self, output: Poses, batch: Batch, target: Field, places: Tensor, kept: Kept) -> None:
        image = batch.inputs.get(self.on or "")
        if image is None or image.data.dim() != 4:
            return
        size = image.data.new_tensor([image.data.shape[3], image.data.shape[2]])
        for i, row in enumerate(target.present.nonzero()[:, 0].tolist()):
            known = target.data[row, :, 5] > 0
            if not bool(output.seen[row]) or not bool(known.any()):
                continue
            error, sure = float(kept["distance"][i][known.cpu()].mean()), float(kept["confidence"][i])
            drawn: Pixels | None = None
            for sort, order in (("Worst", -error), ("Least certain", sure), ("Best", error)):
                shown = self.examples[sort]
                if len(shown) == SHOWN and order >= shown[-1].order:
                    continue
                if drawn is None:
                    drawn = self._drawn(image.data[row], output.frame[row], size, target.data[row], places[row])
                shown.append(Example(order, f"mean error {error:.1f}, confidence {sure:.2f}", drawn))
                shown.sort(key=lambda example: example.order)
                del shown[SHOWN:]

    def _drawn(self, image: Tensor, frame: Tensor, size: Tensor, target: Tensor, places: Tensor) -> Pixels:
        def on_image(of: Tensor) -> NDArray[Any]:
            shares = (frame[None, :, :2] * of[:, None, :].to(frame)).sum(dim=2) + frame[:, 2]
            moved: NDArray[Any] = (shares * size).detach().float().cpu().numpy()
            return moved

        known = (target[:, 5] > 0).cpu().numpy()
        return with_points(in_grey(image), on_image(places), on_image(target[:, 3:5]), known)

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        wanted = [name for name in METRICS if names is None or name in names]
        if self.rows == 0:
            return {name: weights.new_full((len(weights),), torch.nan) for name in wanted}
        kept = self.kept
        distance, known = kept["distance"].double(), kept["true"][..., 2] > 0
        scores: dict[str, Tensor] = {}
        for name in wanted:
            if name == "mean_error":
                scores[name] = mean_distance(distance, known, weights)
            elif name == "pck":
                scores[name] = pck(distance, known, kept["within"], weights)
            else:
                diagonal, area = box_size(kept["true"][..., :2], known)
                if name == "nme":
                    scores[name] = normalised_error(distance, known, diagonal, weights)
                else:
                    alike = similarity(distance, known, area, self.spreads)
                    scores[name] = average_precision(alike, kept["confidence"], weights)
        return scores

    @property
    def varied(self) -> bool:
        true = self.kept["true"] if self.rows else torch.zeros(0, 1, 3)
        return bool((true != true[:1]).any())


def point_views(scorer: PointScorer) -> list[View]:
    """Return the table of the points, the share found at each distance, and the images that ``scorer`` kept, if any."""
    kept = scorer.kept
    distance, known, within = kept["distance"].double(), kept["true"][..., 2] > 0, kept["within"]
    rows: list[dict[str, Cell]] = []
    for k, name in enumerate(scorer.names):
        own, limit = distance[known[:, k], k], within[known[:, k]]
        if len(own):
            share = float((own <= limit).double().mean())
            high = float(own.quantile(0.9))
            rows.append(
                {
                    "point": name,
                    "mean error": float(own.mean()),
                    "median": float(own.median()),
                    "90 % below": high,
                    "PCK": share,
                    "rows": len(own),
                }
            )
    note = f"Errors in pixels of the user's images; PCK: the share of points within {float(within.median()):.3g} pixels."
    views: list[View] = [Table("per_point", "Each point", note, rows=rows)]
    every = distance[known]
    if len(every):
        most = max(float(every.quantile(0.95)), 2 * float(within.median()))
        at = [most * i / STEPS for i in range(STEPS + 1)]
        line = [(step, float((every <= step).double().mean())) for step in at]
        views.append(
            Lines("found", "Points found", "", lines=[("all points", line)], x="distance in pixels", y="share found")
        )
    for sort, examples in scorer.examples.items():
        if examples:
            pictures = [Picture(one.picture, one.caption) for one in examples]
            name = sort.lower().replace(" ", "_")
            how = "Circles are true, crosses answered; a line joins the two."
            views.append(Gallery(name, f"{sort} images", how, pictures=pictures))
    return views


def with_points(
    picture: Pixels, answered: NDArray[Any], true: NDArray[Any] | None = None, known: NDArray[Any] | None = None
) -> Pixels:
    """Return ``picture`` enlarged, with points drawn on it, ``[H, W, 3]``.

    Args:
        picture: In grey ``[h, w]``.
        answered: Places in its pixels ``[K, 2]``, drawn as crosses.
        true: True places, drawn as circles; None: without.
        known: Which places are labelled ``[K]``.
    """
    times = max(1, round(LEAST_SIDE / max(picture.shape)))
    canvas = np.repeat(picture.repeat(times, axis=0).repeat(times, axis=1)[..., None], 3, axis=2)
    high, wide = canvas.shape[:2]
    down, across = np.mgrid[:high, :wide] + 0.5
    radius = max(3.0, max(high, wide) / 60)
    for k, (x, y) in enumerate(np.asarray(answered, np.float64) * times):
        if true is not None and (known is None or known[k]):
            tx, ty = (float(v) * times for v in true[k])
            length = max(float(np.hypot(x - tx, y - ty)), 1e-6)
            along = ((across - tx) * (x - tx) + (down - ty) * (y - ty)) / length
            aside = np.abs((across - tx) * (y - ty) - (down - ty) * (x - tx)) / length
            canvas[(along >= 0) & (along <= length) & (aside < 0.7)] = ANSWERED
            ring = np.abs(np.hypot(across - tx, down - ty) - radius) < 0.9
            canvas[ring] = TRUE
        arms = (np.abs(across - x) < 0.8) & (np.abs(down - y) < radius)
        arms |= (np.abs(down - y) < 0.8) & (np.abs(across - x) < radius)
        canvas[arms] = ANSWERED
    drawn: Pixels = canvas.astype(np.uint8)
    return drawn

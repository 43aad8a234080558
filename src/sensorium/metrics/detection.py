"""Detection metrics as defined by COCO, from matches computed once per picture, and the scorer that keeps the matches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.scorer import Kept, Scorer
from sensorium.metrics.box_overlap import area, box_iou, intersection
from sensorium.metrics.weighting import ratio

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Minimum intersection over union of a match."""
RECALLS = 101
"""Points of recall, from 0 to 1, at which precision is averaged."""
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Sizes in square pixels of the user's image, each from and to."""
MOST = 100
"""Maximum number of scored boxes of a picture, the most confident of all its classes."""
_NUMBERS = 8_000_000
"""Maximum number of values of curves in memory at once, over all resamples."""
Flags = NDArray[np.bool_]


class BoxSet(NamedTuple):
    """Boxes of one picture, in pixels of the user's image, on the CPU.

    Args:
        boxes: Left, top, right, bottom, ``[n, 4]``.
        classes: Class indices ``[n]``.
        scores: Confidences ``[n]``; of true boxes 1 where they are to be ignored, else 0.
    """

    boxes: Tensor
    classes: Tensor
    scores: Tensor


class Matches(NamedTuple):
    """Which answers match a true box, by size and threshold (A = 4, T = 10).

    Args:
        right: Which answers match a true box ``[n, A, T]``.
        ignored: Which answers count neither as right nor as wrong ``[n, A, T]``.
        true: How many true boxes count, by class and size ``[K, A]``.
    """

    right: Flags
    ignored: Flags
    true: NDArray[np.int64]


def matched(answer: BoxSet, truth: BoxSet, classes: int) -> Matches:
    """Match the boxes of an answer with the true ones as COCO does, the most confident first.

    An answer takes the true box of its class that it overlaps most and that no more confident one took. Boxes to be ignored
    may be taken by several answers, where they overlap in the answer's own area; these do not count, nor do answers of
    another size without a match. Source: ``evaluateImg``, https://github.com/cocodataset/cocoapi.

    Args:
        answer: The answers, the most confident first.
        truth: The true boxes.
        classes: The number of classes K.
    """
    bounds = np.array(list(AREAS.values()))
    crowd = truth.scores.numpy() > 0
    size = area(truth.boxes.double()).numpy()
    off = crowd[:, None] | (size[:, None] < bounds[:, 0]) | (size[:, None] > bounds[:, 1])  # [m, A]
    kinds = truth.classes.numpy()
    counts = np.stack([(~off & (kinds == k)[:, None]).sum(axis=0) for k in range(classes)])
    own = area(answer.boxes.double()).numpy()
    outside = (own[:, None] < bounds[:, 0]) | (own[:, None] > bounds[:, 1])
    right = np.zeros((len(own), len(bounds), len(THRESHOLDS)), np.bool_)
    ignored = np.broadcast_to(outside[:, :, None], right.shape).copy()
    if not len(kinds) or not len(own):
        return Matches(right, ignored, counts)
    boxes, true = answer.boxes.double(), truth.boxes.double()
    overlap = box_iou(boxes, true).numpy()
    alone = intersection(boxes[:, None], true[None]).numpy() / np.maximum(own, 1e-12)[:, None]
    overlap = np.where(crowd, alone, overlap)
    overlap[answer.classes.numpy()[:, None] != kinds] = -1
    least = np.minimum(THRESHOLDS, 1 - 1e-10)
    taken = np.zeros((len(bounds), len(THRESHOLDS), len(kinds)), np.bool_)
    for i in np.flatnonzero(overlap.max(axis=1) >= least[0]):
        free = (~taken | crowd) & (overlap[i] >= least[:, None])  # [A, T, m]
        # A box that counts comes before one that is ignored; of equal overlaps the last one is taken.
        rank = np.where(free, overlap[i] + 2.0 * ~off.T[:, None], -1.0)[..., ::-1]
        best = len(kinds) - 1 - rank.argmax(axis=2)
        has_match = free.any(axis=2)
        right[i] = has_match
        dull = np.take_along_axis(off.T, best, axis=1)
        ignored[i] = np.where(has_match, dull, ignored[i])
        np.put_along_axis(
            taken, best[..., None], np.take_along_axis(taken, best[..., None], axis=2) | has_match[..., None], axis=2
        )
    return Matches(right, ignored, counts)


def average_precision(right: Tensor, ignored: Tensor, weight: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return the average precision of each resample and threshold, and the highest recall, ``[R, T]`` each.

    The mean over 101 points of recall of the highest precision at that recall or more: COCO's, with weighted rows.

    Args:
        right: Which answers match ``[T, n]``, the most confident first.
        ignored: Which do not count ``[T, n]``.
        weight: How often the row of each answer counts ``[R, n]``.
        true: How many true boxes there are ``[R]``; the result is NaN where none are.
    """
    # Only what comes before the last match at any threshold matters.
    last = int(right.any(dim=0).nonzero().max()) + 1 if bool(right.any()) else 0
    right, ignored, weight = right[:, :last], ignored[:, :last], weight[:, :last]
    count, answers = len(right), right.shape[1]
    if not answers:
        nothing = torch.where(true > 0, 0.0, torch.nan)[:, None].expand(-1, count)
        return nothing, nothing
    counted = weight[:, None] * ~ignored  # [R, T, n]
    hits = (counted * right).cumsum(dim=2)
    misses = (counted * ~right).cumsum(dim=2)
    recall = hits / true[:, None, None]
    precision = hits / (misses + hits + np.spacing(1))
    highest = precision.flip(2).cummax(dim=2).values.flip(2)
    # NumPy's points: torch's differ in the last digit, and recall may fall on one.
    points = torch.from_numpy(np.linspace(0, 1, RECALLS)).expand(*recall.shape[:2], -1).contiguous()
    place = torch.searchsorted(recall.contiguous(), points)
    at = highest.gather(2, place.clamp(max=answers - 1)).masked_fill(place >= answers, 0.0)
    known = (true > 0)[:, None]
    return torch.where(known, at.mean(dim=2), torch.nan), torch.where(known, recall[..., -1], torch.nan)


class DetectionScorer(Scorer[dict[str, Tensor]]):
    """Keeps how the answers of each row match its true boxes, and scores all rows together.

    Args:
        classes: The names of the classes.
        threshold: The score from which on a box is answered, for counts.
    """

    macro = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "recall")

    def __init__(self, classes: Sequence[str], threshold: float) -> None:
        super().__init__()
        self.classes, self.threshold = list(classes), threshold

    def kept_of(self, pairs: Sequence[tuple[BoxSet, BoxSet]]) -> Kept:
        """What is kept of rows: of each box its score, its class (-1: none) and the bits of its matches.

        Args:
            pairs: The answers and the true boxes of each row.
        """
        rows, classes = len(pairs), len(self.classes)
        kept: Kept = {
            "scores": torch.zeros(rows, MOST),
            "classes": torch.full((rows, MOST), -1, dtype=torch.int16),
            "right": torch.zeros(rows, MOST, dtype=torch.int64),
            "ignored": torch.zeros(rows, MOST, dtype=torch.int64),
            "true": torch.zeros(rows, classes, len(AREAS), dtype=torch.int32),
        }
        bits = 1 << np.arange(len(AREAS) * len(THRESHOLDS), dtype=np.int64)
        for row, (answer, truth) in enumerate(pairs):
            first = answer.scores.argsort(descending=True, stable=True)[:MOST]
            answer = BoxSet(answer.boxes[first], answer.classes[first], answer.scores[first])
            matches, count = matched(answer, truth, classes), len(first)
            kept["scores"][row, :count] = answer.scores
            kept["classes"][row, :count] = answer.classes.to(torch.int16)
            for name, flags in (("right", matches.right), ("ignored", matches.ignored)):
                kept[name][row, :count] = torch.from_numpy(flags.reshape(count, len(bits)) @ bits)
            kept["true"][row] = torch.from_numpy(matches.true)
        return kept

    def answers_of(self, code: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the answers of the class ``code``, best first: row ``[n]``, score ``[n]``, and whether right and
        ignored, ``[A, T, n]``."""
        kept = self.kept
        row, place = (kept["classes"] == code).nonzero().unbind(1)
        scores = kept["scores"][row, place]
        order = scores.argsort(descending=True, stable=True)
        row, place = row[order], place[order]
        bits = torch.arange(len(AREAS) * len(THRESHOLDS))
        flags = [
            (kept[name][row, place][None] >> bits[:, None] & 1).bool().reshape(len(AREAS), len(THRESHOLDS), -1)
            for name in ("right", "ignored")
        ]
        return row, scores[order], flags[0], flags[1]

    def precisions(self, weights: Tensor, size: str = "all") -> tuple[Tensor, Tensor]:
        """Return the average precision and the highest recall of each class and threshold, ``[R, K, T]`` each.

        Args:
            weights: ``[R, rows]``.
            size: One of ``AREAS``.
        """
        at = list(AREAS).index(size)
        true = weights @ self.kept["true"][:, :, at].double()  # [R, K]
        by_class: list[tuple[Tensor, Tensor]] = []
        for code in range(len(self.classes)):
            row, _, right, ignored = self.answers_of(code)
            few = max(1, _NUMBERS // max(1, len(row) * len(THRESHOLDS)))
            parts = [
                average_precision(right[at], ignored[at], chunk[:, row], count)
                for chunk, count in zip(torch.split(weights, few), torch.split(true[:, code], few), strict=True)
            ]
            by_class.append((torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])))
        return (
            torch.stack([precision for precision, _ in by_class], dim=1),
            torch.stack([recall for _, recall in by_class], dim=1),
        )

    def counts(self) -> tuple[Tensor, Tensor]:
        """Return how many boxes of each class were answered in each row, and how many there are, ``[rows, K]``."""
        kept = self.kept
        sure = (kept["scores"] >= self.threshold)[..., None]
        answered = ((kept["classes"][..., None] == torch.arange(len(self.classes))) & sure).sum(dim=1)
        return answered, kept["true"][:, :, 0].long()

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        computed = [*self.macro, "count_error"]
        if self.rows == 0:
            nothing = weights.new_full((len(weights),), torch.nan)
            every = dict.fromkeys(computed, nothing)
            return {name: value for name, value in every.items() if names is None or name in names}
        every = {}
        if names is None or {"map", "map50", "map75", "recall"} & set(names):
            precision, recall = self.precisions(weights)
            every["map"] = precision.mean(dim=2).nanmean(dim=1)
            every["map50"], every["map75"] = (precision[:, :, i].nanmean(dim=1) for i in (0, 5))
            every["recall"] = recall.mean(dim=2).nanmean(dim=1)
        for size in list(AREAS)[1:]:
            if names is None or f"map_{size}" in names:
                every[f"map_{size}"] = self.precisions(weights, size)[0].mean(dim=2).nanmean(dim=1)
        answered, true = self.counts()
        off = (answered - true).abs().double().mean(dim=1)
        every["count_error"] = ratio(weights @ off, weights.sum(dim=1))
        return {name: every[name] for name in computed if name in every and (names is None or name in names)}

    @property
    def varied(self) -> bool:
        return self.rows > 0 and bool((self.kept["true"][:, :, 0].sum(dim=0) > 0).any())

"""Edge metrics: an exact one-to-one match of edge pixels, and ODS, OIS and average precision from its counts.

Source: the Berkeley segmentation benchmark, Martin et al., https://doi.org/10.1109/TPAMI.2004.1273918, and Arbeláez et al.,
https://doi.org/10.1109/TPAMI.2010.161.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.scorer import Kept, Scorer
from sensorium.metrics.skeleton import skeleton
from sensorium.metrics.weighting import ratio

Maps = NDArray[np.bool_]
Counts = NDArray[np.int64]
METRICS = ("ods", "ois", "average_precision", "precision", "recall")


def matched_pixels(answered: Maps, true: Maps, reach: float) -> tuple[Maps, Maps]:
    """Match edge pixels of answers one to one with those of annotators (maximum matching).

    Args:
        answered: Answers ``[T, h, w]``, one for each threshold.
        true: Maps of annotators ``[A, h, w]``.
        reach: Largest distance of a pair, in pixels.

    Returns:
        Which answered pixels ``[A, T, h, w]`` and which true pixels ``[T, A, h, w]`` are matched, separately for each pair
        of answer and annotator.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    left, right = np.argwhere(answered), np.argwhere(true)
    took = np.zeros((len(true), *answered.shape), np.bool_)
    met = np.zeros((len(answered), *true.shape), np.bool_)
    if not len(left) or not len(right):
        return took, met
    margin = int(reach)
    numbers = np.full((len(true), answered.shape[1] + 2 * margin, answered.shape[2] + 2 * margin), -1, np.int64)
    numbers[right[:, 0], right[:, 1] + margin, right[:, 2] + margin] = np.arange(len(right))
    rows, columns = [], []
    for down in range(-margin, margin + 1):
        for across in range(-margin, margin + 1):
            if down * down + across * across > reach * reach:
                continue
            partner = numbers[:, left[:, 1] + margin + down, left[:, 2] + margin + across]  # [A, pixels]
            annotator, pixel = (partner >= 0).nonzero()
            rows.append(annotator * len(left) + pixel)
            columns.append(left[pixel, 0] * len(right) + partner[annotator, pixel])
    row, column = np.concatenate(rows), np.concatenate(columns)
    shape = (len(true) * len(left), len(answered) * len(right))
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column)), shape=shape).tocsr()
    partners = maximum_bipartite_matching(graph, perm_type="column")
    pairs = (partners >= 0).nonzero()[0]
    pixel, annotator = pairs % len(left), pairs // len(left)
    took[annotator, left[pixel, 0], left[pixel, 1], left[pixel, 2]] = True
    chosen = partners[pairs].astype(np.int64)
    pixel, threshold = chosen % len(right), chosen // len(right)
    met[threshold, right[pixel, 0], right[pixel, 1], right[pixel, 2]] = True
    return took, met


def edge_counts(strength: NDArray[np.float32], true: Maps, levels: Sequence[float], reach: float) -> Counts:
    """Count the edge pixels of one image at several thresholds, all thinned before they are matched.

    Args:
        strength: Strengths of the answer ``[h, w]``.
        true: Maps of annotators ``[A, h, w]``.
        levels: Thresholds of the strength.
        reach: Largest distance of a pair, in pixels.

    Returns:
        ``[T, 4]``: answered pixels that match any annotator, answered pixels, true pixels that are matched (the sum over
        annotators), true pixels (likewise).
    """
    answered = skeleton(strength[None] >= np.asarray(levels, np.float32)[:, None, None])
    thin = skeleton(true)
    took, met = matched_pixels(answered, thin, reach)
    total = np.full(len(levels), int(thin.sum()))
    right = took.any(axis=0).sum(axis=(1, 2))
    return np.stack([right, answered.sum(axis=(1, 2)), met.sum(axis=(1, 2, 3)), total], axis=1).astype(np.int64)


def f_score(counts: Tensor) -> Tensor:
    """Return the harmonic mean of precision and recall ``[...]`` of ``counts`` ``[..., 4]``; 0 if nothing is correct."""
    precision, recall = precision_recall(counts)
    return torch.where(precision + recall > 0, 2 * precision * recall / (precision + recall).clamp(min=1e-12), 0.0)


def precision_recall(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return precision and recall, each ``[...]``, of ``counts`` ``[..., 4]``; 1 where nothing is answered, or true."""
    right, answered, met, true = counts.unbind(-1)
    return torch.where(answered > 0, ratio(right, answered), 1.0), torch.where(true > 0, ratio(met, true), 1.0)


def average_precision(precision: Tensor, recall: Tensor) -> Tensor:
    """Return the mean precision at recalls 0, .01, ..., 1 (``[R]``), 0 beyond those reached.

    Args:
        precision: At each threshold ``[R, T]``.
        recall: Likewise.
    """
    at = np.linspace(0, 1, 101)
    results = []
    for heights, places in zip(precision.double().numpy(), recall.double().numpy(), strict=True):
        order = np.lexsort((-heights, places))
        places, heights = places[order], heights[order]
        results.append(float(np.interp(at, places, heights, left=heights[0], right=0.0).mean()))
    return torch.tensor(results, dtype=torch.float64)


class EdgeScorer(Scorer[dict[str, Tensor]]):
    """Keeps the edge counts of every row at each threshold, and scores all rows together.

    Metrics: ``ods``, the F-score at the best threshold for all rows, with its ``precision`` and ``recall``; ``ois``, with
    the best threshold of each row; ``average_precision``.

    Args:
        count: Gives the indices of the rows of a batch that count, and the counts ``[n, T, 4]`` of an output.
        levels: The thresholds.
    """

    def __init__(
        self, count: Callable[[dict[str, Tensor], Batch], tuple[list[int], Tensor]], levels: Sequence[float]
    ) -> None:
        super().__init__()
        self.count, self.levels = count, list(levels)

    def keep(self, output: dict[str, Tensor], batch: Batch) -> Kept:
        return {"counts": self.count(output, batch)[1]}

    def totals(self, weights: Tensor | None = None) -> Tensor:
        """Return the counts of all rows together ``[R, T, 4]`` float64 under ``weights`` ``[R, rows]``."""
        weights = self.ones() if weights is None else weights
        return torch.einsum("rn,ntc->rtc", weights, self.kept["counts"].double())

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        requested = [name for name in METRICS if names is None or name in names]
        if self.rows == 0:
            return {name: weights.new_full((len(weights),), torch.nan) for name in requested}
        totals = self.totals(weights)
        scores = f_score(totals)
        best = scores.argmax(dim=1, keepdim=True)
        precision, recall = precision_recall(totals)
        counts = self.kept["counts"].double()
        chosen = counts[torch.arange(len(counts)), f_score(counts).argmax(dim=1)]
        measures: dict[str, Callable[[], Tensor]] = {
            "ods": lambda: scores.gather(1, best)[:, 0],
            "ois": lambda: f_score(weights @ chosen),
            "average_precision": lambda: average_precision(precision, recall),
            "precision": lambda: precision.gather(1, best)[:, 0],
            "recall": lambda: recall.gather(1, best)[:, 0],
        }
        return {name: measures[name]() for name in requested}

    @property
    def varied(self) -> bool:
        return self.rows > 0 and bool((self.kept["counts"][:, :, 3] > 0).any())

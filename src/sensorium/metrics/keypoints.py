"""Metrics of key points: mean distance, PCK, normalised error, average precision of object key point similarity.

Distances ``[B, K]`` are in pixels; ``known`` ``[B, K]`` says which points are labelled; ``weight`` is ``[R, B]`` (see
``metrics/weighting.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from sensorium.metrics.weighting import mean, ratio

THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))
"""Similarities from which a row counts as found, as in COCO."""
RECALLS = 101
"""Recalls at which precision is read, as in COCO."""
_BY_PART = {
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
COCO_SPREADS = {"nose": 0.026} | {f"{side}_{part}": of for part, of in _BY_PART.items() for side in ("left", "right")}
"""Spread of annotators' labels of the points of a person, relative to its size. Source: the COCO API,
https://github.com/cocodataset/cocoapi, ``Params.setKpParams``."""
SPREAD = 0.05
"""The same where no measurement exists."""


def spreads(names: Sequence[str]) -> Tensor:
    """Return the spread ``[K]`` of each of the points ``names``: COCO's for those of a person, else 0.05."""
    return torch.tensor([COCO_SPREADS.get(name, SPREAD) for name in names], dtype=torch.float64)


def mean_distance(distance: Tensor, known: Tensor, weight: Tensor) -> Tensor:
    """Return the mean ``distance`` of all labelled points ``[R]``; ``known`` and ``weight`` as in the module docstring."""
    return ratio(weight @ (distance * known).sum(dim=1), weight @ known.double().sum(dim=1))


def pck(distance: Tensor, known: Tensor, within: Tensor, weight: Tensor) -> Tensor:
    """Return the share of labelled points that are found (percentage of correct key points) ``[R]``.

    Source: Yang and Ramanan, https://doi.org/10.1109/TPAMI.2012.261.

    Args:
        distance: As in the module docstring, as are ``known`` and ``weight``.
        known: Which points are labelled.
        within: The distance up to which a point is found ``[B]``.
        weight: How often each row counts.
    """
    return mean_distance((distance <= within[:, None]).double(), known, weight)


def box_size(places: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the diagonal and the area of the box around the labelled points of each row, ``[B]`` float64; NaN without any.

    Args:
        places: In pixels ``[B, K, 2]``.
        known: Which are labelled ``[B, K]``.
    """
    far = torch.inf
    low = places.double().masked_fill(~known[..., None], far).amin(dim=1)
    high = places.double().masked_fill(~known[..., None], -far).amax(dim=1)
    side = torch.where(known.any(dim=1, keepdim=True), high - low, torch.nan)
    return side.square().sum(dim=1).sqrt(), side.prod(dim=1)


def normalised_error(distance: Tensor, known: Tensor, diagonal: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over rows of the mean distance relative to the size of the row's shape ``[R]``.

    Args:
        distance: As in the module docstring, as are ``known`` and ``weight``.
        known: Which points are labelled.
        diagonal: Of the box around the labelled points ``[B]``; rows where it is 0 do not count.
        weight: How often each row counts.
    """
    row_error = (distance * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
    sized = diagonal > 0
    if not bool(sized.any()):
        return weight.new_full((len(weight),), torch.nan)
    return mean((row_error / diagonal)[sized], weight[:, sized])


def similarity(distance: Tensor, known: Tensor, area: Tensor, spread: Tensor) -> Tensor:
    """Return the object key point similarity of each row ``[B]``: the mean over labelled points of exp(-d² / (2 s² k²)).

    Here s² is the area of the object and k twice the spread of the labels. Source: COCO, https://cocodataset.org/#keypoints-eval.

    Args:
        distance: As in the module docstring.
        known: Which points are labelled.
        area: Of the box around the labelled points in pixels ``[B]``; at least 1 counts.
        spread: As ``spreads`` gives it.
    """
    variance = (2 * spread).square() * area.clamp(min=1)[:, None]
    alike = (-distance.double().square() / (2 * variance)).exp()
    return (alike * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def average_precision(
    alike: Tensor, confidence: Tensor, weight: Tensor, thresholds: Collection[float] = THRESHOLDS
) -> Tensor:
    """Return COCO's average precision where each row has one object and one answer, averaged over thresholds ``[R]``.

    Args:
        alike: Similarity of answer and truth ``[B]``.
        confidence: Of the answers ``[B]``: precision is traced from the most confident.
        weight: How often each row counts ``[R, B]``.
        thresholds: Similarities from which an answer is right.
    """
    order = confidence.argsort(descending=True, stable=True)
    times, alike = weight[:, order], alike[order]
    answered = times.cumsum(dim=1)
    objects = answered[:, -1:]
    at = torch.linspace(0, 1, RECALLS, dtype=torch.float64)
    scores = []
    for threshold in thresholds:
        right = (times * (alike >= threshold)).cumsum(dim=1)
        precision = right / answered.clamp_min(1e-300)
        # The best precision at this recall or a higher one.
        best = precision.flip(1).cummax(dim=1).values.flip(1)
        first = torch.searchsorted((right / objects).contiguous(), at.expand(len(times), -1).contiguous())
        reached = first < best.shape[1]
        scores.append((best.gather(1, first.clamp(max=best.shape[1] - 1)) * reached).mean(dim=1))
    return torch.stack(scores).mean(dim=0)

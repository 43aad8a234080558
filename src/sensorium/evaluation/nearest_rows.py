"""The training rows that a model holds for most like a row: cosines of their joint vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Batch
from sensorium.core.errors import ConfigError
from sensorium.model import Model


class Neighbour(NamedTuple):
    """A training row: its number, counted from 1, how like it is (the cosine, at most 1), and its targets."""

    row: int
    likeness: float
    targets: dict[str, Any]


def vectors(model: Model, batches: Iterable[Batch]) -> Tensor:
    """The joint vector of each row ``[rows, D]``: what the tasks read."""
    if not model.network:
        raise ConfigError("the model has no network, so its rows have no vectors", fix="train it with --quality good")
    with torch.inference_mode():
        found = [model.fusion(model.encode(batch)).pooled.float().cpu() for batch in batches]
    return torch.cat(found) if found else torch.zeros(0, model.fusion.dim)


def nearest(rows: Tensor, known: Tensor, count: int = 5) -> list[list[tuple[int, float]]]:
    """For each of ``rows`` ``[n, D]`` the places of the nearest among ``known`` ``[m, D]`` and their cosines, best first.

    A row of which nothing is known has no direction: it is near to none.
    """
    cosine = F.normalize(rows.double(), dim=1) @ F.normalize(known.double(), dim=1).T
    best = cosine.topk(min(count, known.shape[0]), dim=1)
    here = rows.abs().sum(dim=1) > 0
    return [
        [(int(i), float(c)) for i, c in zip(index, value, strict=True)] if there else []
        for index, value, there in zip(best.indices.tolist(), best.values.tolist(), here.tolist(), strict=True)
    ]

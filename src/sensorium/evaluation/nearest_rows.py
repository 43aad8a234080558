"""Nearest training rows by cosine similarity of their fused vectors."""

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
    """A neighbouring training row.

    Args:
        row: Its number, from 1.
        likeness: Cosine similarity, at most 1.
        targets: Its targets.
    """

    row: int
    likeness: float
    targets: dict[str, Any]


def vectors(model: Model, batches: Iterable[Batch]) -> Tensor:
    """Return the fused vector of each row ``[rows, D]``, the input of the tasks.

    Args:
        model: The model, in evaluation mode.
        batches: Prepared batches.

    Raises:
        ConfigError: The model has no network.
    """
    if not model.network:
        raise ConfigError("the model has no network, so its rows have no fused vectors", fix="train it with --quality good")
    with torch.inference_mode():
        pooled = [model.fusion(model.encode(batch)).pooled.float().cpu() for batch in batches]
    return torch.cat(pooled) if pooled else torch.zeros(0, model.fusion.dim)


def nearest(rows: Tensor, known: Tensor, count: int = 5) -> list[list[tuple[int, float]]]:
    """Return, for each of ``rows`` ``[n, D]``, the indices and cosines of the ``count`` nearest of ``known`` ``[m, D]``.

    A zero vector (a row without any stream) has no direction and gets no neighbours.
    """
    cosine = F.normalize(rows.double(), dim=1) @ F.normalize(known.double(), dim=1).T
    best = cosine.topk(min(count, known.shape[0]), dim=1)
    nonzero = rows.abs().sum(dim=1) > 0
    return [
        [(int(i), float(c)) for i, c in zip(index, value, strict=True)] if any_stream else []
        for index, value, any_stream in zip(best.indices.tolist(), best.values.tolist(), nonzero.tolist(), strict=True)
    ]

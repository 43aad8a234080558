"""Weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.streams import shares, vectors


@component
class Weighted(Fusion):
    """α · picture + β · text + …: one weight a stream, which can be read off. The weights of those that are there sum to 1.

    The one to take where a person must be told how much each stream counts; ``gated`` weighs every feature by itself.
    Source: linear score combination, https://doi.org/10.1109/34.667881, with weights learnt as a softmax.

    Args:
        weights: ``equal``; ``learned``, the same for all rows; or ``row``, learnt and moved by what stands in the row.
    """

    def __init__(
        self, streams: Sequence[str], dim: int, *, weights: Literal["equal", "learned", "row"] = "learned"
    ) -> None:
        super().__init__(streams, dim)
        count = len(self.streams)
        self.logits = None if weights == "equal" else nn.Parameter(torch.zeros(count))
        self.evidence = nn.Parameter(torch.randn(count, dim) * dim**-0.5) if weights == "row" else None

    def coefficients(self) -> dict[str, float]:
        """The weight of each stream where all are there (with ``row``: before the row is looked at)."""
        logits = torch.zeros(len(self.streams)) if self.logits is None else self.logits.detach()
        return dict(zip(self.streams, logits.softmax(dim=0).tolist(), strict=True))

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        return {"share": self.shares(parts)}

    def shares(self, parts: Mapping[str, Encoded]) -> Tensor:
        """The weights ``[B, S]`` that each row's streams get, in the model's order; 0 where absent."""
        pooled, here = vectors(parts, self.streams)
        score = pooled.new_zeros(here.shape)
        if self.logits is not None:
            score = score + self.logits
        if self.evidence is not None:
            score = score + (pooled * self.evidence).sum(dim=-1)
        return shares(score, here)

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, here = vectors(parts, self.streams)
        fused = (self.shares(parts).unsqueeze(-1) * pooled).sum(dim=1)
        return Encoded(pooled, here, fused, here.any(dim=1))

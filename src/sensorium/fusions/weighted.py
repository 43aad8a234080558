"""Weighted sum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.registry import component
from sensorium.nn.streams import shares, vectors


@component
class Weighted(Fusion):
    """α · picture + β · text + …: a weighted sum with one weight for each stream, learned or given.

    The weights of the streams present sum to 1, unless ``normalise`` is off. Use it where the weights must be
    interpretable or are given; ``gated`` weights every feature separately.
    Source: linear score combination, https://doi.org/10.1109/34.667881, with weights learned through a softmax.

    Args:
        weights: ``equal``; ``learned``, the same for all rows; or ``row``, learned and adjusted for each row.
        fixed: A weight for every stream, as ``{photo: 0.7, note: 0.3}``; no weights are learned then.
        normalise: Whether the weights of the streams present sum to 1; otherwise they are as given, or unconstrained.
    """

    def __init__(
        self,
        streams: Sequence[str],
        dim: int,
        *,
        weights: Literal["equal", "learned", "row"] = "learned",
        fixed: dict[str, float] | None = None,
        normalise: bool = True,
    ) -> None:
        super().__init__(streams, dim)
        count = len(self.streams)
        self.normalise = normalise
        self.fixed_weights: Tensor | None
        self.register_buffer("fixed_weights", None if fixed is None else self._fixed(fixed, weights), persistent=False)
        learns = weights != "equal" and fixed is None
        self.logits = nn.Parameter(torch.full((count,), 0.0 if normalise else 1 / count)) if learns else None
        self.evidence = nn.Parameter(torch.randn(count, dim) * dim**-0.5) if weights == "row" else None

    def _fixed(self, fixed: dict[str, float], weights: str) -> Tensor:
        unknown = next((name for name in fixed if name not in self.streams), None)
        if unknown is not None:
            raise ConfigError(f"fixed: no stream named {unknown!r}{nearest(unknown, self.streams)}")
        absent = [name for name in self.streams if name not in fixed]
        if absent:
            raise ConfigError(f"fixed: no weight for {', '.join(absent)}", fix="give every stream one")
        if weights != "learned":
            raise ConfigError(f"fixed and weights: {weights} contradict each other", fix="leave one of them out")
        bad = next((s for s, w in fixed.items() if not math.isfinite(w) or (self.normalise and w <= 0)), None)
        if bad is not None:
            raise ConfigError(
                f"fixed: the weight of {bad!r} is {fixed[bad]:g}; weights that sum to 1 are above 0",
                fix="normalise: false takes any, 0 and below too",
            )
        return torch.tensor([float(fixed[s]) for s in self.streams])

    def coefficients(self) -> dict[str, float]:
        """The weight of each stream when all are present (with ``row``: before the adjustment for the row)."""
        known = self.logits if self.logits is not None else self.fixed_weights
        nothing = torch.zeros(1, len(self.streams), device=None if known is None else known.device)
        weight = self._weight(nothing, torch.ones_like(nothing, dtype=torch.bool))[0]
        return dict(zip(self.streams, weight.detach().tolist(), strict=True))

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``share``: the weights of the streams of ``parts``; unconstrained ones by absolute value, scaled to sum to 1."""
        weight = self.shares(parts)
        if self.normalise:
            return {"share": weight}
        size = weight.abs()
        presence = vectors(parts, self.streams)[1]
        total = size.sum(dim=1, keepdim=True)
        equal = presence / presence.sum(dim=1, keepdim=True).clamp(min=1)
        return {"share": torch.where(total > 0, size / total.clamp(min=torch.finfo(size.dtype).tiny), equal.to(size))}

    def _weight(self, score: Tensor, presence: Tensor) -> Tensor:
        """Return the weights ``[B, S]`` of the streams present, adjusted for each row."""
        if self.fixed_weights is not None:
            score = score + (self.fixed_weights.log() if self.normalise else self.fixed_weights)
        elif self.logits is not None:
            score = score + self.logits
        elif not self.normalise:
            score = score + 1 / len(self.streams)
        # log of given weights: their softmax is the weights over their sum.
        return shares(score, presence) if self.normalise else score.masked_fill(~presence, 0.0)

    def shares(self, parts: Mapping[str, Encoded]) -> Tensor:
        """The weights ``[B, S]`` of the streams of ``parts`` in each row, in the model's order; 0 where absent."""
        pooled, presence = vectors(parts, self.streams)
        score = pooled.new_zeros(presence.shape)
        if self.evidence is not None:
            score = score + (pooled * self.evidence).sum(dim=-1)
        return self._weight(score, presence)

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)
        fused = (self.shares(parts).unsqueeze(-1) * pooled).sum(dim=1)
        return Encoded(pooled, presence, fused, presence.any(dim=1))

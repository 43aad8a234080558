"""A custom fusion: the whole plug-in is this file and four lines of ``pyproject.toml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.streams import vectors


@component
class Peak(Fusion):
    """Take each feature from the stream where it is largest: a smooth maximum over streams.

    Source: the log-sum-exp smooth maximum, Boyd and Vandenberghe, Convex Optimization (2004), section 3.1.5.

    Args:
        softness: Near 0 only the stream with the largest value counts; larger values include the others.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, softness: float = 0.5) -> None:
        super().__init__(streams, dim)
        self.softness = softness
        self.value = nn.ModuleList(nn.Linear(dim, dim) for _ in self.streams)

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        value = torch.stack([f(x) for f, x in zip(self.value, pooled.unbind(dim=1), strict=True)], dim=1)
        value = value.masked_fill(~presence.unsqueeze(-1), 0.0)
        # A finite floor, not -inf: a row without any stream must give zeros, not NaN.
        low = value.masked_fill(~presence.unsqueeze(-1), -1e4)
        fused = self.softness * (low / self.softness).logsumexp(dim=1)
        present = presence.any(dim=1)
        return Encoded(value, presence, fused.masked_fill(~present.unsqueeze(-1), 0.0), present)

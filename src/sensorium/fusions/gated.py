"""Gated fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.errors import ConfigError
from sensorium.core.registry import component
from sensorium.nn.streams import shares, vectors


@component
class Gated(Fusion):
    """Gated fusion: weights the streams feature by feature for each row, h = g ⊙ h₁ + (1 − g) ⊙ h₂, for any number of them.

    The gate of a missing stream is closed and the others share its weight, so a row with one stream is that stream alone.
    Cheaper than ``cross_attention`` (one vector for each stream), finer than ``concat`` (weights depend on the row).
    Source: Gated Multimodal Unit, https://arxiv.org/abs/1702.01992, with a softmax over streams for more than two.

    Args:
        temperature: Below 1 the gates select, above 1 they average.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, temperature: float = 1.0) -> None:
        super().__init__(streams, dim)
        if not temperature > 0:
            raise ConfigError(f"temperature is {temperature:g}; it must be above 0", fix="temperature: 1.0")
        self.temperature = temperature
        self.value = nn.ModuleList(nn.Linear(dim, dim) for _ in self.streams)
        self.gate = nn.ModuleList(nn.Linear(dim, dim) for _ in self.streams)

    def _gates(self, pooled: Tensor, presence: Tensor) -> Tensor:
        """``[B, S, D]``: the weight of each stream in every feature; 0 where absent."""
        score = torch.stack([f(x) for f, x in zip(self.gate, pooled.unbind(dim=1), strict=True)], dim=1)
        return shares(score / self.temperature, presence)

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``gate`` ``[B, S, D]`` of the streams of ``parts``, and ``share``, its mean over features."""
        gate = self._gates(*vectors(parts, self.streams))
        return {"share": gate.mean(dim=-1), "gate": gate}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        by_stream = pooled.unbind(dim=1)
        value = torch.stack([f(x) for f, x in zip(self.value, by_stream, strict=True)], dim=1).tanh()
        value = zeroed(value, presence)
        fused = (self._gates(pooled, presence) * value).sum(dim=1)
        return Encoded(value, presence, fused, presence.any(dim=1))

"""Concatenation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.mlp import Mlp
from sensorium.nn.streams import vectors


@component
class Concat(Fusion):
    """Concatenation of all streams, followed by a small network that also sees which are present.

    The plain choice where streams are complementary and few are missing; ``gated`` is more robust to missing streams.
    Source: early fusion, https://arxiv.org/abs/1705.09406, § 5.1.

    Args:
        depth: Hidden layers of the network.
        missing: What replaces an absent stream: a ``learned`` vector, or ``zeros``.
        dropout: Share of hidden features dropped in training.
    """

    def __init__(
        self,
        streams: Sequence[str],
        dim: int,
        *,
        depth: int = 1,
        missing: Literal["learned", "zeros"] = "learned",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(streams, dim)
        count = len(self.streams)
        self.network = Mlp(count * (dim + 1), count * dim, dim, depth=depth, dropout=dropout)
        self.missing = nn.Parameter(torch.randn(count, dim) * 0.02) if missing == "learned" else None

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        filled = pooled if self.missing is None else torch.where(presence.unsqueeze(-1), pooled, self.missing)
        present = presence.any(dim=1)
        fused = self.network(torch.cat([filled.flatten(1), presence.to(filled.dtype)], dim=1))
        return Encoded(pooled, presence, zeroed(fused, present), present)

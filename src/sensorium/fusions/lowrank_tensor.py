"""Low-rank tensor fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.mlp import Mlp
from sensorium.nn.streams import vectors


@component
class LowrankTensor(Fusion):
    """Low-rank tensor fusion: the product of all streams, as a sum of rank-one products.

    h = Σᵣ wᵣ ⊙ ∏ₛ (Wₛᵣ [1; vₛ]), then a residual perceptron. The cost grows linearly with the number of streams, that of
    ``tensor`` exponentially. An absent stream is left out of the product, so a row with one stream takes that stream's
    own path. ``lowrank`` multiplies pairs only and is the safer choice; use this where three streams interact.
    Source: Low-rank Multimodal Fusion, https://arxiv.org/abs/1806.00064, equation 7.

    Args:
        rank: Number of products in the sum.
        dropout: Share of features dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, rank: int = 4, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        self.rank = rank
        self.factor = nn.ModuleList(nn.Linear(dim, rank * dim) for _ in self.streams)
        with torch.no_grad():
            for factor in self.factor:
                assert isinstance(factor, nn.Linear)
                # Around 1, so that a product of many factors neither vanishes nor explodes and starts as about their sum.
                factor.bias.fill_(1.0)
        self.mix = nn.Parameter(torch.randn(rank, dim) * rank**-0.5)
        self.norm = nn.LayerNorm(dim)
        self.network = Mlp(dim, 2 * dim, dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        factor = torch.stack([f(x) for f, x in zip(self.factor, pooled.unbind(dim=1), strict=True)], dim=1)
        factor = factor.masked_fill(~presence.unsqueeze(-1), 1.0)  # [B, S, R·D]
        # Neighbours in a loop, not torch.prod: its gradient divides by a factor that may be zero.
        product = factor[:, 0]
        for i in range(1, len(self.streams)):
            product = product * factor[:, i]
        hidden = self.drop((product.reshape(-1, self.rank, self.dim) * self.mix).sum(dim=1))
        fused = hidden + self.drop(self.network(self.norm(hidden)))
        present = presence.any(dim=1)
        return Encoded(pooled, presence, zeroed(fused, present), present)

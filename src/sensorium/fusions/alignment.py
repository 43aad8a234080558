"""Alignment by cross-attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.attention import Attention
from sensorium.nn.pool import masked_mean
from sensorium.nn.streams import shares, tokens, vectors


@component
class Alignment(Fusion):
    """Every token of a stream looks at the tokens of all other streams, then the streams are weighed and summed.

    Take it where parts of one stream speak of parts of another (a word and a region) and tokens are worth their cost. A row
    with one stream has nothing to look at and is that stream alone. The tokens are those of all streams, aligned.
    Source: softmax(QKᵀ/√d)V across streams as in ViLBERT, https://arxiv.org/abs/1908.02265, § 3.1.

    Args:
        depth: Rounds of looking at each other.
        heads: Attention heads; they share the model's width.
        dropout: Share of features and of attention dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, depth: int = 1, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        count = len(self.streams)
        self.name = nn.Parameter(torch.randn(count, dim) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))
        self.rounds = nn.ModuleList(Attention(dim, heads, dropout=dropout) for _ in range(depth))
        self.drop = nn.Dropout(dropout)
        self.logits = nn.Parameter(torch.zeros(count))

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, here = vectors(parts, self.streams)
        every, real = tokens(parts, self.streams)
        sizes = [parts[s].tokens.shape[1] for s in self.streams]
        owner = torch.cat([real.new_full((n,), i, dtype=torch.long) for i, n in enumerate(sizes)])
        seen = real.unsqueeze(1) & (owner.unsqueeze(1) != owner)  # [B, N, N]: real, and of another stream
        reach = seen.any(dim=-1, keepdim=True)
        for norm, look in zip(self.norms, self.rounds, strict=True):
            named = norm(every) + self.name[owner]
            # What nothing can be seen from stays as it is: the output layer's bias must not reach it.
            every = every + self.drop(look(named, named, seen)).masked_fill(~reach, 0.0)
        every = every.masked_fill(~real.unsqueeze(-1), 0.0)
        means = [masked_mean(t, m) for t, m in zip(torch.split(every, sizes, 1), torch.split(real, sizes, 1), strict=True)]
        aligned = pooled + torch.stack(means, dim=1).masked_fill(~here.unsqueeze(-1), 0.0)
        weight = shares(self.logits.expand(here.shape), here)
        fused = (weight.unsqueeze(-1) * aligned).sum(dim=1)
        return Encoded(every, real, fused, here.any(dim=1))

"""Cross-attention between streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.attention import Attention
from sensorium.nn.pool import masked_mean
from sensorium.nn.streams import owners, shares, sizes, tokens, vectors


@component
class CrossAttention(Fusion):
    """Cross-attention: each token attends to the tokens of all other streams; the streams are then weighted and summed.

    Use it where parts of one stream refer to parts of another (words and image regions) and tokens are worth their cost.
    A row with one stream has nothing to attend to and is that stream alone. The tokens are those of all streams, aligned.
    Source: softmax(QKᵀ/√d)V across streams as in ViLBERT, https://arxiv.org/abs/1908.02265, § 3.1.

    Args:
        depth: Rounds of cross-attention.
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

    def _start(self, parts: Mapping[str, Encoded]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the tokens, which of them are real, the stream of each, and the attention mask ``[B, N, N]``: real tokens
        of other streams."""
        every, real = tokens(parts, self.streams)
        owner = owners(sizes(parts, self.streams), every)
        return every, real, owner, real.unsqueeze(1) & (owner.unsqueeze(1) != owner)

    def _round(self, i: int, every: Tensor, owner: Tensor, attention_mask: Tensor) -> Tensor:
        named = self.norms[i](every) + self.name[owner]
        # Tokens that can attend to nothing stay unchanged: the bias of the output layer must not reach them.
        looked: Tensor = self.drop(self.rounds[i](named, named, attention_mask)).masked_fill(
            ~attention_mask.any(dim=-1, keepdim=True), 0.0
        )
        return every + looked

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``share``, and ``attention`` ``[B, N, N]`` over all tokens of ``parts``: attention to other streams in the last
        round."""
        presence = vectors(parts, self.streams)[1]
        every, real, owner, attention_mask = self._start(parts)
        for i in range(len(self.rounds) - 1):
            every = self._round(i, every, owner, attention_mask)
        named, last = self.norms[-1](every) + self.name[owner], self.rounds[-1]
        assert isinstance(last, Attention)
        attention = zeroed(last.weights(named, named, attention_mask), real)
        return {"share": shares(self.logits.expand(presence.shape), presence), "attention": attention}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)
        every, real, owner, attention_mask = self._start(parts)
        for i in range(len(self.rounds)):
            every = self._round(i, every, owner, attention_mask)
        every = zeroed(every, real)
        count = sizes(parts, self.streams)
        means = [masked_mean(t, m) for t, m in zip(torch.split(every, count, 1), torch.split(real, count, 1), strict=True)]
        aligned = pooled + zeroed(torch.stack(means, dim=1), presence)
        weight = shares(self.logits.expand(presence.shape), presence)
        fused = (weight.unsqueeze(-1) * aligned).sum(dim=1)
        return Encoded(every, real, fused, presence.any(dim=1))

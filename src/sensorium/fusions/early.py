"""Early fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.attention import Block, Trunk
from sensorium.nn.streams import Gathered, owners, sizes, tokens, vectors


@component
class Early(Fusion):
    """Early fusion: one transformer over the tokens of all streams, with stream embeddings.

    Encoders are meant to be shallow (a recipe that leaves them open gets shallow ones); the joint model does the work. It
    can find patterns that no stream shows alone, and needs many rows to do so. The cost grows with the square of all
    tokens together; ``bottleneck`` grows less.
    Source: ViLT, https://arxiv.org/abs/2102.03334, § 3.1: shallow embeddings with a type each, one transformer.

    Args:
        depth: Transformer blocks.
        heads: Attention heads; they share the model's width.
        dropout: Share of features and of attention dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, depth: int = 3, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        self.name = nn.Parameter(torch.randn(len(self.streams), dim) * 0.02)
        self.joint = Trunk(dim, depth, heads, dropout=dropout)
        self.gathered = Gathered(len(self.streams))

    def _start(self, parts: Mapping[str, Encoded]) -> tuple[Tensor, Tensor, list[int]]:
        every, real = tokens(parts, self.streams)
        count = sizes(parts, self.streams)
        return every + self.name[owners(count, every)], real, count

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``attention`` ``[B, N, N]`` over all tokens of ``parts`` in the last block."""
        every, real, _ = self._start(parts)
        *before, last = self.joint.blocks
        for block in before:
            every = block(every, real)
        assert isinstance(last, Block)
        normed = last.norm_attention(every)
        attention = zeroed(last.attention.weights(normed, normed, real), real)
        return {"share": self.gathered.share(vectors(parts, self.streams)[1]), "attention": attention}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)
        every, real, count = self._start(parts)
        every = self.joint(every, real)
        met: Encoded = self.gathered(pooled, presence, torch.split(every, count, dim=1), torch.split(real, count, dim=1))
        return met

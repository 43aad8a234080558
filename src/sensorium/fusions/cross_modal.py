"""Cross-modal transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.attention import Block
from sensorium.nn.cross_attention import CrossAttentionLayer
from sensorium.nn.streams import Gathered, owners, sizes, tokens, vectors


@component
class CrossModal(Fusion):
    """Cross-modal transformer: in each layer tokens attend to the other streams' tokens, then to their own stream's.

    Each layer: one attention across streams, shared by all directions, then for every stream its own attention and
    perceptron. Use it where parts of one stream refer to parts of another and rows are many (tens of thousands);
    ``cross_attention`` is the attention without the transformer. A row with one stream passes its own blocks only.
    Source: LXMERT, https://arxiv.org/abs/1908.07490, § 2.2, normalising first and for any number of streams.

    Args:
        depth: Layers.
        heads: Attention heads; they share the model's width.
        dropout: Share of features and of attention dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, depth: int = 2, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        self.name = nn.Parameter(torch.randn(len(self.streams), dim) * 0.02)
        self.looks = nn.ModuleList(CrossAttentionLayer(dim, heads, dropout=dropout) for _ in range(depth))
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in self.streams) for _ in range(depth)
        )
        self.gathered = Gathered(len(self.streams))

    def _start(self, parts: Mapping[str, Encoded]) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """Return tokens with stream embeddings, which of them are real, the attention mask ``[B, N, N]`` (other streams),
        and the number of tokens of each stream."""
        every, real = tokens(parts, self.streams)
        count = sizes(parts, self.streams)
        owner = owners(count, every)
        return every + self.name[owner], real, real.unsqueeze(1) & (owner.unsqueeze(1) != owner), count

    def _own(self, blocks: nn.Module, every: Tensor, real: Tensor, count: list[int]) -> Tensor:
        assert isinstance(blocks, nn.ModuleList)
        pieces = zip(blocks, torch.split(every, count, dim=1), torch.split(real, count, dim=1), strict=True)
        return torch.cat([block(x, mask) for block, x, mask in pieces], dim=1)

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``attention`` ``[B, N, N]`` over all tokens of ``parts``: attention to other streams in the last layer."""
        every, real, attention_mask, count = self._start(parts)
        for look, blocks in list(zip(self.looks, self.blocks, strict=True))[:-1]:
            every = self._own(blocks, look(every, every, attention_mask), real, count)
        last = self.looks[-1]
        assert isinstance(last, CrossAttentionLayer)
        attention = zeroed(last.weights(every, every, attention_mask), real)
        return {"share": self.gathered.share(vectors(parts, self.streams)[1]), "attention": attention}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)
        every, real, attention_mask, count = self._start(parts)
        for look, blocks in zip(self.looks, self.blocks, strict=True):
            every = self._own(blocks, look(every, every, attention_mask), real, count)
        met: Encoded = self.gathered(pooled, presence, torch.split(every, count, dim=1), torch.split(real, count, dim=1))
        return met

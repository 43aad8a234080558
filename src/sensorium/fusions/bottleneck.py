"""Bottleneck transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.errors import ConfigError
from sensorium.core.registry import component
from sensorium.nn.attention import Block
from sensorium.nn.streams import Gathered, vectors


@component
class Bottleneck(Fusion):
    """Streams exchange information only through a few shared bottleneck tokens.

    Each layer, every stream attends to its own tokens and the shared ones; the shared ones are then averaged over the
    streams present. The cost grows with the tokens of each stream separately, not of all together: use it for long streams
    (sound and video). A row with one stream attends to itself.
    Source: Attention Bottlenecks, https://arxiv.org/abs/2107.00135, equations 8 and 9.

    Args:
        tokens: Shared tokens.
        depth: Layers; at least 2, since the second reads what the first writes into the shared tokens.
        heads: Attention heads; they share the model's width.
        dropout: Share of features and of attention dropped in training.
    """

    def __init__(
        self,
        streams: Sequence[str],
        dim: int,
        *,
        tokens: int = 4,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(streams, dim)
        if depth < 2:
            raise ConfigError(f"depth is {depth}: streams meet from the second layer on", fix="depth: 2")
        self.shared = nn.Parameter(torch.randn(tokens, dim) * 0.02)
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in self.streams) for _ in range(depth)
        )
        self.gathered = Gathered(len(self.streams))

    def _start(self, parts: Mapping[str, Encoded]) -> tuple[list[Tensor], list[Tensor], Tensor]:
        real = [parts[s].mask & parts[s].present.unsqueeze(1) for s in self.streams]
        tokens = [zeroed(parts[s].tokens, m) for s, m in zip(self.streams, real, strict=True)]
        return tokens, real, self.shared.expand(tokens[0].shape[0], -1, -1)

    def _layer(
        self, blocks: nn.Module, tokens: list[Tensor], real: list[Tensor], shared: Tensor, presence: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        assert isinstance(blocks, nn.ModuleList)
        after, shared_after = [], []
        for block, x, mask in zip(blocks, tokens, real, strict=True):
            both = block(torch.cat([x, shared], dim=1), torch.cat([mask, mask.new_ones(shared.shape[:2])], dim=1))
            after.append(both[:, : x.shape[1]])
            shared_after.append(both[:, x.shape[1] :])
        count = presence.sum(dim=1).clamp(min=1)
        total = torch.einsum("bs,bskd->bkd", presence.to(shared), torch.stack(shared_after, dim=1))
        return after, total / count[:, None, None]

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Return ``bottleneck`` ``[B, K, N]``: attention of the shared tokens to all other tokens of ``parts``, in the last
        layer whose shared tokens are used."""
        presence = vectors(parts, self.streams)[1]
        tokens, real, shared = self._start(parts)
        for blocks in list(self.blocks)[:-2]:
            tokens, shared = self._layer(blocks, tokens, real, shared, presence)
        attention = []
        last = self.blocks[-2]
        assert isinstance(last, nn.ModuleList)
        for i, (block, x, mask) in enumerate(zip(last, tokens, real, strict=True)):
            assert isinstance(block, Block)
            both = block.norm_attention(torch.cat([x, shared], dim=1))
            key_mask = torch.cat([mask, mask.new_ones(shared.shape[:2])], dim=1)
            look = block.attention.weights(both[:, x.shape[1] :], both, key_mask)[:, :, : x.shape[1]]
            attention.append(look * presence[:, i, None, None])
        count = presence.sum(dim=1).clamp(min=1)[:, None, None]
        return {"share": self.gathered.share(presence), "bottleneck": torch.cat(attention, dim=2) / count}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)
        tokens, real, shared = self._start(parts)
        for blocks in self.blocks:
            tokens, shared = self._layer(blocks, tokens, real, shared, presence)
        met: Encoded = self.gathered(pooled, presence, tokens, real)
        return met

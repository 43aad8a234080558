"""Deep fusion, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.attention import Block
from sensorium.nn.mlp import Mlp
from sensorium.nn.pool import masked_mean
from sensorium.nn.streams import vectors


@component
class Deep(Fusion):
    """Deep fusion: streams and a joint state are refined together, layer by layer.

    In each layer the state scales every stream's features, x ← 2σ(Eₛm) ⊙ x; its tokens pass a block of their own; their
    mean sₛ updates the state, m ← m + f(norm(m + mean of Vₛsₛ over the streams present)). The first state is the mean of
    the streams' projected vectors; the last is the fused vector. Between ``late`` (streams never interact) and ``early``
    (they interact at once): use it where streams need layers of their own that the others should modulate.
    Source: Multimodal Transfer Module, https://arxiv.org/abs/1911.08670, equations 1 to 4 (squeeze, joint, excite), with
    the joint representation carried from layer to layer.

    Args:
        depth: Layers.
        heads: Attention heads of each stream's block; they share the model's width.
        dropout: Share of features and of attention dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, depth: int = 2, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        indices = range(len(self.streams))
        self.start = nn.ModuleList(nn.Linear(dim, dim) for _ in indices)
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in indices) for _ in range(depth)
        )
        self.squeeze = nn.ModuleList(nn.ModuleList(nn.Linear(dim, dim) for _ in indices) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))
        self.joint = nn.ModuleList(Mlp(dim, 2 * dim, dim, dropout=dropout) for _ in range(depth))
        self.excite = nn.ModuleList(nn.ModuleList(nn.Linear(dim, dim) for _ in indices) for _ in range(depth))
        self.drop = nn.Dropout(dropout)

    def _mean(self, layers: nn.Module, vector: Sequence[Tensor], presence: Tensor) -> Tensor:
        assert isinstance(layers, nn.ModuleList)
        return masked_mean(torch.stack([f(x) for f, x in zip(layers, vector, strict=True)], dim=1), presence)

    def _run(self, parts: Mapping[str, Encoded]) -> tuple[Encoded, Tensor]:
        """Return the fused encoding and the last gates ``[B, S, D]``."""
        pooled, presence = vectors(parts, self.streams)
        real = [parts[s].mask & parts[s].present.unsqueeze(1) for s in self.streams]
        tokens = [zeroed(parts[s].tokens, m) for s, m in zip(self.streams, real, strict=True)]
        state = self._mean(self.start, pooled.unbind(dim=1), presence)
        gates: list[Tensor] = []
        for excite, blocks, squeeze, norm, joint in zip(
            self.excite, self.blocks, self.squeeze, self.norms, self.joint, strict=True
        ):
            assert isinstance(blocks, nn.ModuleList)
            assert isinstance(excite, nn.ModuleList)
            gates = [2 * gate(state).sigmoid() for gate in excite]
            tokens = [block(x * g.unsqueeze(1), m) for block, x, g, m in zip(blocks, tokens, gates, real, strict=True)]
            means = [masked_mean(x, m) for x, m in zip(tokens, real, strict=True)]
            state = state + self.drop(joint(norm(state + self._mean(squeeze, means, presence))))
        present, mask = presence.any(dim=1), torch.cat(real, dim=1)
        every = zeroed(torch.cat(tokens, dim=1), mask)
        fused = Encoded(every, mask, zeroed(state, present), present)
        return fused, zeroed(torch.stack(gates, dim=1), presence)

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``gate`` ``[B, S, D]``: the factor, 0 to 2, of each feature of each stream of ``parts`` in the last layer."""
        return {"gate": self._run(parts)[1]}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        return self._run(parts)[0]

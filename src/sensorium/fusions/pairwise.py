"""Directional pairwise cross-modal transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.module_dict import NamedModules
from sensorium.core.registry import component
from sensorium.nn.attention import Trunk
from sensorium.nn.cross_attention import CrossBlock
from sensorium.nn.positional_encoding import sinusoids
from sensorium.nn.streams import Gathered, sizes, vectors


@component
class Pairwise(Fusion):
    """Directional pairwise cross-modal transformers, one for every ordered pair of streams, without alignment.

    Zₐ←ᵦ: the tokens of a attend to those of b in each layer; the results for a over all b are averaged and pass a
    transformer of their own. Positions are added, so sequences of different length and rate need no alignment (speech and
    gestures). S (S − 1) transformers: for two to four streams. A row with one stream skips the cross-attention.
    Source: MulT, https://arxiv.org/abs/1906.00295, equations 3 to 6; the mean over sources instead of their concatenation,
    so that any may be missing.

    Args:
        depth: Layers of each transformer.
        heads: Attention heads; they share the model's width.
        dropout: Share of features and of attention dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, depth: int = 2, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        count = len(self.streams)
        self.pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
        self.readers: NamedModules[nn.ModuleList] = NamedModules(
            {
                f"{self.streams[a]} < {self.streams[b]}": nn.ModuleList(
                    CrossBlock(dim, heads, dropout=dropout) for _ in range(depth)
                )
                for a, b in self.pairs
            }
        )
        self.trunks = nn.ModuleList(Trunk(dim, depth, heads, dropout=dropout) for _ in self.streams)
        self.drop = nn.Dropout(dropout)
        self.gathered = Gathered(count)

    def _start(self, parts: Mapping[str, Encoded]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the tokens of each stream with position embeddings, zero where masked, and which of them are real."""
        real = [parts[s].mask & parts[s].present.unsqueeze(1) for s in self.streams]
        placed = []
        for stream, mask in zip(self.streams, real, strict=True):
            x = parts[stream].tokens
            placed.append(self.drop(zeroed(x + sinusoids(x.shape[1], self.dim, x), mask)))
        return placed, real

    def _reader(self, a: int, b: int) -> nn.ModuleList:
        return self.readers[f"{self.streams[a]} < {self.streams[b]}"]

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``attention`` ``[B, N, N]`` over all streams' tokens: attention of each token to the other streams in the last
        layer, averaged over those streams."""
        placed, real = self._start(parts)
        presence = vectors(parts, self.streams)[1]
        starts = torch.tensor([0, *sizes(parts, self.streams)]).cumsum(0).tolist()
        attention = placed[0].new_zeros(presence.shape[0], starts[-1], starts[-1])
        for a, b in self.pairs:
            x = placed[a]
            *before, last = self._reader(a, b)
            for block in before:
                x = block(x, placed[b], real[b])
            assert isinstance(last, CrossBlock)
            read = zeroed(last.look.weights(x, placed[b], real[b]), real[a])
            sources = (presence.sum(dim=1) - 1).clamp(min=1)
            attention[:, starts[a] : starts[a + 1], starts[b] : starts[b + 1]] = read / sources[:, None, None]
        return {"share": self.gathered.share(presence), "attention": attention}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)
        placed, real = self._start(parts)
        met = []
        for a, trunk in enumerate(self.trunks):
            total, sources = torch.zeros_like(placed[a]), torch.zeros_like(presence[:, 0], dtype=placed[a].dtype)
            for b in range(len(self.streams)):
                if a == b:
                    continue
                x = placed[a]
                for block in self._reader(a, b):
                    x = block(x, placed[b], real[b])
                total = total + x * presence[:, b, None, None]
                sources = sources + presence[:, b]
            alone = (sources == 0)[:, None, None]
            read = torch.where(alone, placed[a], total / sources.clamp(min=1)[:, None, None])
            met.append(trunk(read, real[a]))
        joined: Encoded = self.gathered(pooled, presence, met, real)
        return joined

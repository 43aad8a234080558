"""Token fusions built from ``torch.nn.MultiheadAttention``, as the reference cost of a hand-written model.

Each takes vectors ``[B, S, D]``, tokens by stream ``[B, N, D]`` and padding by stream ``[B, N]`` (True where padded), has
the same depth, heads and widths as the fusion of the same name, and returns ``[B, D]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Streams = Sequence[Tensor]


def layer(dim: int, heads: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True)


def stack(dim: int, depth: int, heads: int) -> nn.TransformerEncoder:
    return nn.TransformerEncoder(layer(dim, heads), depth, nn.LayerNorm(dim), enable_nested_tensor=False)


def pooled(vectors: Tensor, tokens: Streams, padding: Streams) -> Tensor:
    """Return the mean over streams of the vector plus the mean token."""
    means = []
    for x, pad in zip(tokens, padding, strict=True):
        real = (~pad).unsqueeze(2)
        means.append((x * real).sum(dim=1) / real.sum(dim=1).clamp(min=1))
    return (vectors + torch.stack(means, dim=1)).mean(dim=1)


def others(tokens: Streams, padding: Streams, a: int) -> tuple[Tensor, Tensor]:
    """Return the tokens of all streams except ``a``, and their padding."""
    rest = [b for b in range(len(tokens)) if b != a]
    return torch.cat([tokens[b] for b in rest], dim=1), torch.cat([padding[b] for b in rest], dim=1)


class Alignment(nn.Module):
    """Cross-attention between streams."""

    def __init__(self, streams: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))
        self.rounds = nn.ModuleList(nn.MultiheadAttention(dim, heads, batch_first=True) for _ in range(depth))

    def forward(self, vectors: Tensor, tokens: Streams, padding: Streams) -> Tensor:
        for norm, attend in zip(self.norms, self.rounds, strict=True):
            normed = [norm(x) for x in tokens]
            results = []
            for a, x in enumerate(tokens):
                context, pad = others(normed, padding, a)
                results.append(x + attend(normed[a], context, context, key_padding_mask=pad, need_weights=False)[0])
            tokens = results
        return pooled(vectors, tokens, padding)


class Cross(Alignment):
    """Layers as in LXMERT: cross-attention, then self-attention of each stream."""

    def __init__(self, streams: int, dim: int, depth: int, heads: int) -> None:
        super().__init__(streams, dim, depth, heads)
        self.own = nn.ModuleList(nn.ModuleList(layer(dim, heads) for _ in range(streams)) for _ in range(depth))

    def forward(self, vectors: Tensor, tokens: Streams, padding: Streams) -> Tensor:
        for norm, attend, own in zip(self.norms, self.rounds, self.own, strict=True):
            assert isinstance(own, nn.ModuleList)
            normed = [norm(x) for x in tokens]
            results = []
            for a, x in enumerate(tokens):
                context, pad = others(normed, padding, a)
                x = x + attend(normed[a], context, context, key_padding_mask=pad, need_weights=False)[0]
                results.append(own[a](x, src_key_padding_mask=padding[a]))
            tokens = results
        return pooled(vectors, tokens, padding)


class Reader(nn.Module):
    """A decoder layer without self-attention: one stream attends to another."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm, self.norm_context, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attend = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, context: Tensor, pad: Tensor) -> Tensor:
        normed = self.norm_context(context)
        x = x + self.attend(self.norm(x), normed, normed, key_padding_mask=pad, need_weights=False)[0]
        added: Tensor = x + self.mlp(self.norm_mlp(x))
        return added


class Pairwise(nn.Module):
    """Directional attention between pairs of streams, as in MulT."""

    def __init__(self, streams: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        pairs = [(a, b) for a in range(streams) for b in range(streams) if a != b]
        self.readers = nn.ModuleDict(
            {f"{a}_{b}": nn.ModuleList(Reader(dim, heads) for _ in range(depth)) for a, b in pairs}
        )
        self.trunks = nn.ModuleList(stack(dim, depth, heads) for _ in range(streams))

    def forward(self, vectors: Tensor, tokens: Streams, padding: Streams) -> Tensor:
        met = []
        for a, start in enumerate(tokens):
            read = []
            for b, source in enumerate(tokens):
                if a != b:
                    x = start
                    readers = self.readers[f"{a}_{b}"]
                    assert isinstance(readers, nn.ModuleList)
                    for reader in readers:
                        x = reader(x, source, padding[b])
                    read.append(x)
            met.append(self.trunks[a](torch.stack(read).mean(dim=0), src_key_padding_mask=padding[a]))
        return pooled(vectors, met, padding)


class Bottleneck(nn.Module):
    """Attention through bottleneck tokens."""

    def __init__(self, streams: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.randn(4, dim) * 0.02)
        self.own = nn.ModuleList(nn.ModuleList(layer(dim, heads) for _ in range(streams)) for _ in range(depth))

    def forward(self, vectors: Tensor, tokens: Streams, padding: Streams) -> Tensor:
        rows = vectors.shape[0]
        shared, free = self.shared.expand(rows, -1, -1), torch.zeros(rows, 4, dtype=torch.bool)
        for own in self.own:
            assert isinstance(own, nn.ModuleList)
            both = [
                part(torch.cat([x, shared], dim=1), src_key_padding_mask=torch.cat([pad, free], dim=1))
                for part, x, pad in zip(own, tokens, padding, strict=True)
            ]
            tokens = [x[:, :-4] for x in both]
            shared = torch.stack([x[:, -4:] for x in both]).mean(dim=0)
        return pooled(vectors, tokens, padding)


class Early(nn.Module):
    """One transformer over the tokens of all streams."""

    def __init__(self, streams: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.joint = stack(dim, depth, heads)

    def forward(self, vectors: Tensor, tokens: Streams, padding: Streams) -> Tensor:
        every = self.joint(torch.cat(list(tokens), dim=1), src_key_padding_mask=torch.cat(list(padding), dim=1))
        return pooled(vectors, torch.split(every, [x.shape[1] for x in tokens], dim=1), padding)


class Deep(nn.Module):
    """Fusion at every layer, through a shared state that gates the streams."""

    def __init__(self, streams: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        every = range(streams)
        self.start = nn.ModuleList(nn.Linear(dim, dim) for _ in every)
        self.own = nn.ModuleList(nn.ModuleList(layer(dim, heads) for _ in every) for _ in range(depth))
        self.squeeze = nn.ModuleList(nn.ModuleList(nn.Linear(dim, dim) for _ in every) for _ in range(depth))
        self.excite = nn.ModuleList(nn.ModuleList(nn.Linear(dim, dim) for _ in every) for _ in range(depth))
        self.joint = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
            for _ in range(depth)
        )

    def forward(self, vectors: Tensor, tokens: Streams, padding: Streams) -> Tensor:
        state = torch.stack([f(v) for f, v in zip(self.start, vectors.unbind(dim=1), strict=True)]).mean(dim=0)
        for own, squeeze, excite, joint in zip(self.own, self.squeeze, self.excite, self.joint, strict=True):
            assert isinstance(own, nn.ModuleList)
            assert isinstance(squeeze, nn.ModuleList)
            assert isinstance(excite, nn.ModuleList)
            results, result = [], []
            for a, (x, pad) in enumerate(zip(tokens, padding, strict=True)):
                x = own[a](x * (2 * excite[a](state).sigmoid()).unsqueeze(1), src_key_padding_mask=pad)
                real = (~pad).unsqueeze(2)
                result.append(squeeze[a]((x * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)))
                results.append(x)
            tokens = results
            state = state + joint(state + torch.stack(result).mean(dim=0))
        return state


TORCH: dict[str, Callable[[int, int, int, int], nn.Module]] = {
    "cross_attention": Alignment,
    "cross_modal": Cross,
    "pairwise": Pairwise,
    "bottleneck": Bottleneck,
    "early": Early,
    "deep": Deep,
}

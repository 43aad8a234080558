"""Low-rank bilinear fusion."""

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
class Lowrank(Fusion):
    """Low-rank bilinear fusion: each stream by itself plus a low-rank product of each pair of streams.

    h = Σₛ Wₛvₛ + P Σₛ﹤ₜ (Uₛvₛ) ⊙ (Uₜvₜ), then a residual perceptron. A pair counts only where both streams are present, so
    a row with one stream takes exactly that stream's own path. Use it where no stream is sufficient alone (a question
    about an image), and ``gated`` where each is. Products of three: ``lowrank_tensor``.
    Source: factorization machines, https://doi.org/10.1109/ICDM.2010.127, lemma 3.1; low-rank bilinear pooling,
    https://arxiv.org/abs/1610.04325.

    Args:
        rank: Width of the products; None: the model's width.
        dropout: Share of features dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, rank: int | None = None, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        rank = rank or dim
        self.own = nn.ModuleList(nn.Linear(dim, dim) for _ in self.streams)
        # A hidden layer, so that a factor may be a conjunction ("not" and "brown") before it meets the other stream's.
        self.factor = nn.ModuleList(Mlp(dim, 2 * dim, rank, dropout=dropout) for _ in self.streams)
        self.product = nn.Linear(rank, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.network = Mlp(dim, 2 * dim, dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        by_stream = pooled.unbind(dim=1)
        own = torch.stack([f(x) for f, x in zip(self.own, by_stream, strict=True)], dim=1)
        own = zeroed(own, presence)
        factor = torch.stack([f(x) for f, x in zip(self.factor, by_stream, strict=True)], dim=1)  # [B, S, R]
        # An absent stream's factor must be zero, or it would count in every pair.
        factor = zeroed(factor, presence)
        # All pairs in time linear in S: Σₛ﹤ₜ aₛaₜ = ½((Σₛ aₛ)² − Σₛ aₛ²).
        pairs = 0.5 * (factor.sum(dim=1).square() - factor.square().sum(dim=1))
        hidden = own.sum(dim=1) + self.drop(self.product(pairs))
        fused = hidden + self.drop(self.network(self.norm(hidden)))
        present = presence.any(dim=1)
        return Encoded(own, presence, zeroed(fused, present), present)

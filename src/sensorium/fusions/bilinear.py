"""Bilinear fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.mlp import Mlp
from sensorium.nn.streams import vectors


@component
class Bilinear(Fusion):
    """Bilinear fusion: linear terms of each stream plus all products of features, for every pair of streams.

    h = Σₛ Wₛvₛ + Σₛ﹤ₜ Pₛₜ vec(uₛuₜᵀ) with uₛ = Uₛvₛ, then a residual perceptron. A pair counts only where both streams are
    present, so a row with one stream takes exactly that stream's own path. Use it rather than ``lowrank`` for two or
    three streams and many rows: it models every product, at R² weights for each pair and feature.
    Source: bilinear models, https://doi.org/10.1162/089976600300015349, equation 1; in networks,
    https://doi.org/10.1109/ICCV.2015.170.

    Args:
        features: R, the number of features of each stream that are multiplied; at most the model's width.
        dropout: Share of features dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, features: int = 16, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        self.width = min(features, dim)
        self.own = nn.ModuleList(nn.Linear(dim, dim) for _ in self.streams)
        self.factor = nn.ModuleList(Mlp(dim, 2 * dim, self.width, dropout=dropout) for _ in self.streams)
        self.pairs = tuple(combinations(range(len(self.streams)), 2))
        self.product = nn.Linear(len(self.pairs) * self.width**2, dim, bias=False) if self.pairs else None
        self.norm = nn.LayerNorm(dim)
        self.network = Mlp(dim, 2 * dim, dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        by_stream = pooled.unbind(dim=1)
        own = torch.stack([f(x) for f, x in zip(self.own, by_stream, strict=True)], dim=1)
        own = zeroed(own, presence)
        hidden = own.sum(dim=1)
        if self.product is not None:
            factor = torch.stack([f(x) for f, x in zip(self.factor, by_stream, strict=True)], dim=1)  # [B, S, R]
            factor = zeroed(factor, presence)
            left, right = factor[:, [a for a, _ in self.pairs]], factor[:, [b for _, b in self.pairs]]
            products = left.unsqueeze(3) * right.unsqueeze(2)  # [B, pairs, R, R]
            hidden = hidden + self.drop(self.product(products.flatten(1)))
        fused = hidden + self.drop(self.network(self.norm(hidden)))
        present = presence.any(dim=1)
        return Encoded(own, presence, zeroed(fused, present), present)

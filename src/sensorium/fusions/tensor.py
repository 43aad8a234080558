"""Tensor fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.errors import ConfigError
from sensorium.core.registry import component
from sensorium.nn.available_memory import available
from sensorium.nn.mlp import Mlp
from sensorium.nn.outer_product import orders, outer
from sensorium.nn.streams import vectors

ENTRIES = 5_000
"""Maximum number of products if ``features`` is None."""
ROWS = 64
"""Rows of a batch, for the estimate of memory."""


@component
class Tensor(Fusion):
    """Tensor fusion: all products of the streams' features, from single streams up to all streams.

    h = W (⊗ₛ [1; uₛ]) with uₛ of R features, then a residual perceptron. For an absent stream u = 0 and the 1 remains, so
    products without it are exact and those with it vanish. It has (R + 1)^S products: for two to four streams with
    interactions beyond pairs; ``lowrank`` models pairs only, ``lowrank_tensor`` the same product with few terms.
    Source: Tensor Fusion Network, https://arxiv.org/abs/1707.07250, equations 2 and 3.

    Args:
        features: R, the number of features of each stream that are multiplied; None: as many, up to 16, as give at most
            5,000 products.
        dropout: Share of features dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, features: int | None = None, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        count = len(self.streams)
        self.width = features or max(1, min(16, dim, int(ENTRIES ** (1 / count)) - 1))
        _fits(count, self.width, dim)
        self.factor = nn.ModuleList(Mlp(dim, 2 * dim, self.width, dropout=dropout) for _ in self.streams)
        self.product = nn.Linear((self.width + 1) ** count, dim)
        order = orders(count, self.width)
        with torch.no_grad():
            # Each order starts as loud as if it were alone: else the few features by themselves drown among the products.
            self.product.weight.mul_((len(order) / torch.bincount(order)[order] / (count + 1)).sqrt())
        self.norm = nn.LayerNorm(dim)
        self.network = Mlp(dim, 2 * dim, dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        factor = torch.stack([f(x) for f, x in zip(self.factor, pooled.unbind(dim=1), strict=True)], dim=1)
        factor = zeroed(factor, presence)  # [B, S, R]
        hidden = self.drop(self.product(outer(factor.unbind(dim=1))))
        fused = hidden + self.drop(self.network(self.norm(hidden)))
        present = presence.any(dim=1)
        return Encoded(pooled, presence, zeroed(fused, present), present)


def _fits(streams: int, width: int, dim: int) -> None:
    """Refuse what does not fit into memory: weights, their gradients and two moments, products and their gradients."""
    entries = (width + 1) ** streams
    needed = 4 * entries * (4 * dim + 2 * ROWS)
    free = available()
    if needed <= free // 2:
        return
    fitting = next((w for w in range(width - 1, 0, -1) if 4 * (w + 1) ** streams * (4 * dim + 2 * ROWS) <= free // 2), 0)
    smaller = f"features: {fitting}, or " if fitting else ""
    raise ConfigError(
        f"the product of {streams} streams of {width} features has {entries:,} entries and would take "
        f"{needed / 2**20:,.0f} MB in training; half of the free memory is {free / 2**21:,.0f} MB",
        fix=f"{smaller}fusion: lowrank (pairs) or lowrank_tensor (the same product in few terms)",
    )

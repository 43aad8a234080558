"""Perceptron over a ready-made vector."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.core.registry import component
from sensorium.nn.mlp import Mlp
from sensorium.nn.pool import masked_mean


@component
class Vector(Encoder):
    """A perceptron over a precomputed embedding, with a linear shortcut.

    Returns one token, which is also the vector, or several for fusions that attend to tokens.
    Source: a residual projection head, as in https://arxiv.org/abs/2103.00020, § 2.3, and https://arxiv.org/abs/1512.03385.

    Args:
        dim: Width of the tokens and of the vector.
        depth: Hidden layers.
        width: Width of the hidden layers.
        tokens: Number of tokens.
        dropout: Share of features of the input and of the hidden layers dropped in training.
    """

    reads = (Grid,)

    def __init__(
        self, layout: Grid, *, dim: int = 128, depth: int = 1, width: int = 128, tokens: int = 1, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if math.prod(layout.size) != 1:
            raise ConfigError(f"vector reads a grid of one cell, and this one has {' × '.join(map(str, layout.size))}")
        self.dim, self.count = dim, tokens
        self.drop = nn.Dropout(dropout)
        self.linear = nn.Linear(layout.channels, dim * tokens)
        self.network = Mlp(layout.channels, width, dim * tokens, depth=depth, dropout=dropout)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, C, 1]``; tokens ``[B, tokens, D]``."""
        steps = data.flatten(2).transpose(1, 2)  # [B, 1, C]; more where padded
        real = steps.new_ones(steps.shape[:2]).bool() if mask is None else mask
        vector = self.drop(masked_mean(steps, real))
        out = self.linear(vector) + self.network(vector)
        tokens = out.reshape(-1, self.count, self.dim)
        present = real.new_ones(real.shape[0])
        return Encoded(tokens, present.unsqueeze(1).expand(-1, self.count), tokens.mean(dim=1), present)

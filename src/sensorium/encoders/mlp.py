"""Multilayer perceptron for the cells of a table."""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder
from sensorium.core.layout import Row
from sensorium.core.registry import component
from sensorium.nn.mlp import Mlp as Perceptron
from sensorium.nn.table_cells import Cells


@component
class Mlp(Encoder):
    """A multilayer perceptron over all numbers and categories of a row, with indicators of missing cells.

    Returns one token, which is also the vector. Use it rather than ``cells`` for many rows or little time.
    Source: the MLP baseline of https://arxiv.org/abs/2106.11959, § 3.1, with entity embeddings, https://arxiv.org/abs/1604.06737.

    Args:
        dim: Width of the token.
        depth: Hidden layers.
        width: Width of the hidden layers.
        embedding: Width of a category's embedding.
        dropout: Share of hidden features dropped in training.
    """

    reads = (Row,)

    def __init__(
        self,
        layout: Row,
        *,
        dim: int = 128,
        depth: int = 2,
        width: int = 128,
        embedding: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.cells = Cells(layout.cardinalities, embedding)
        numbers, codes = self.cells.numbers.shape[0], self.cells.codes.shape[0]
        self.network = Perceptron(2 * numbers + codes * (embedding + 1), width, dim, depth=depth, dropout=dropout)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` and ``mask`` ``[B, cells]``; tokens ``[B, 1, D]``."""
        number, vector, real = self.cells(data, mask)
        pooled = self.network(torch.cat([number, vector.flatten(1), (~real).to(data.dtype)], dim=1))
        presence = real.new_ones(real.shape[0])
        return Encoded(pooled.unsqueeze(1), presence.unsqueeze(1), pooled, presence)

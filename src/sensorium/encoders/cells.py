"""Transformer over the cells of a table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sensorium.core.batch import zeroed
from sensorium.core.layout import Row
from sensorium.core.registry import component
from sensorium.nn.attention import Trunk
from sensorium.nn.table_cells import Cells as Parts
from sensorium.nn.token_encoder import Stacked


@component
class Cells(Stacked):
    """FT-Transformer: attention over the cells of a table row, one token for each cell, none for a missing one.

    Use it rather than ``mlp`` where cells are often missing, where cells are to be explained individually, or where a
    fusion reads tokens. The vector is the mean token; there is no class token.
    Source: FT-Transformer, https://arxiv.org/abs/2106.11959, § 3.3.

    Args:
        dim: Width of the tokens; a multiple of ``heads``.
        depth: Transformer blocks.
        heads: Attention heads.
        dropout: Share of features and of attention dropped in training.
    """

    reads = (Row,)

    def __init__(self, layout: Row, *, dim: int = 128, depth: int = 2, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.dim = dim
        self.parts = Parts(layout.cardinalities, dim)
        self.scale = nn.Parameter(torch.randn(self.parts.numbers.shape[0], dim) * dim**-0.5)
        self.shift = nn.Parameter(torch.randn(len(layout.cardinalities), dim) * dim**-0.5)
        self.stack = Trunk(dim, depth, heads, dropout=dropout)

    def embed(self, data: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        number, vector, real = self.parts(data, mask)
        tokens = self.shift.expand(data.shape[0], -1, -1)
        tokens = tokens.index_add(1, self.parts.numbers, number.unsqueeze(-1) * self.scale)
        if self.parts.embedding is not None:
            tokens = tokens.index_add(1, self.parts.codes, vector)
        return zeroed(tokens, real), real

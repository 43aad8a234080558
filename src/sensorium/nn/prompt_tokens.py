"""Prompts as tokens: the words of a question, or cells of a table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sensorium.core.batch import Field
from sensorium.core.layout import Ids, Row
from sensorium.nn.positional_encoding import sinusoids
from sensorium.nn.table_cells import Cells


class PromptTokens(nn.Module):
    """Embed a prompt column: a token for each word, or one for each table cell.

    Args:
        layout: The layout of the column.
        dim: Width D of the tokens.
    """

    def __init__(self, layout: Ids | Row, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.words: nn.Embedding | None = None
        if isinstance(layout, Ids):
            self.words = nn.Embedding(layout.vocabulary, dim)
            nn.init.normal_(self.words.weight, std=dim**-0.5)
        else:
            self.cells = Cells(layout.cardinalities, dim)
            self.number = nn.Linear(1, dim) if 0 in layout.cardinalities else None

    def forward(self, prompt: Field) -> tuple[Tensor, Tensor]:
        """Return tokens ``[B, N, D]`` and which are valid ``[B, N]``; none of a row without the prompt."""
        if self.words is not None:
            ids = prompt.data
            real = ids.new_ones(ids.shape).bool() if prompt.mask is None else prompt.mask
            embedded = self.words(ids) * self.dim**0.5 + sinusoids(ids.shape[1], self.dim, self.words.weight)
            return embedded, real & prompt.present[:, None]
        real = prompt.data.new_ones(prompt.data.shape).bool() if prompt.mask is None else prompt.mask
        number, vector, real = self.cells(prompt.data, real & prompt.present[:, None])
        parts = [] if self.number is None else [self.number(number.unsqueeze(-1))]
        parts += [vector] if vector.shape[1] else []
        order = torch.cat([self.cells.numbers, self.cells.codes])
        return torch.cat(parts, dim=1), real[:, order]

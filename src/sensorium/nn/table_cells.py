"""Numbers and embedded categories of table rows."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn

from sensorium.core.batch import zeroed


class Cells(nn.Module):
    """Split table cells into numbers and embedded categories; both zero where missing.

    All categorical columns share one embedding table, each with its own range. ``numbers`` and ``codes`` are the positions
    of numeric and categorical cells in the row.
    """

    numbers: Tensor
    codes: Tensor
    first: Tensor
    last: Tensor

    def __init__(self, cardinalities: tuple[int, ...], dim: int) -> None:
        super().__init__()
        places = {sort: [i for i, n in enumerate(cardinalities) if (n > 0) == sort] for sort in (False, True)}
        sizes = [cardinalities[i] for i in places[True]]
        starts = [0, *accumulate(sizes)][: len(sizes)]
        for name, values in (
            ("numbers", places[False]),
            ("codes", places[True]),
            ("first", starts),
            ("last", [n - 1 for n in sizes]),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.long), persistent=False)
        self.embedding = nn.Embedding(sum(sizes), dim) if sizes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=dim**-0.5)

    def forward(self, data: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return numbers ``[B, n]``, embedded categories ``[B, c, D]`` and the mask ``[B, cells]`` of ``data`` ``[B,
        cells]``.

        ``mask`` marks the cells that are present; None: all.
        """
        real = data.new_ones(data.shape).bool() if mask is None else mask
        clean = data.masked_fill(~real, 0.0)
        number = clean[:, self.numbers]
        if self.embedding is None:
            return number, clean.new_zeros((clean.shape[0], 0, 1)), real
        code = clean[:, self.codes].long().clamp(min=0).minimum(self.last) + self.first
        vector = zeroed(self.embedding(code), real[:, self.codes])
        return number, vector, real

"""Transformer over a sequence."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sensorium.core.batch import zeroed
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid, Ids
from sensorium.core.registry import component
from sensorium.nn.attention import Trunk
from sensorium.nn.positional_encoding import sinusoids
from sensorium.nn.token_encoder import Stacked


@component
class Transformer(Stacked):
    """A transformer over words or the steps of a series.

    Use it rather than ``bag_of_words`` where word order matters and rows are many, or for pretraining; rather than
    ``patch`` for series short enough for a token for each step.
    Source: https://arxiv.org/abs/1706.03762, with pre-normalisation as in https://arxiv.org/abs/2002.04745.

    Args:
        dim: Width of the tokens; a multiple of ``heads``.
        depth: Transformer blocks.
        heads: Attention heads.
        dropout: Share of features and of attention dropped in training.
    """

    reads = (Ids, Grid)

    def __init__(self, layout: Ids | Grid, *, dim: int = 128, depth: int = 2, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.dim = dim
        self.first: nn.Module
        if isinstance(layout, Ids):
            self.first = nn.Embedding(layout.vocabulary, dim, padding_idx=0)
            nn.init.normal_(self.first.weight, std=0.5)
        elif len(layout.size) == 1:
            self.first = nn.Linear(layout.channels, dim)
        else:
            raise ConfigError(f"encoder 'transformer' reads words and series, not {layout}", fix="take encoder 'patch'")
        self.stack = Trunk(dim, depth, heads, dropout=dropout)

    def embed(self, data: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if isinstance(self.first, nn.Embedding):
            real = data != 0 if mask is None else mask
            tokens = self.first(data)
        else:
            steps = data.transpose(1, 2)
            real = steps.new_ones(steps.shape[:2]).bool() if mask is None else mask
            tokens = self.first(steps)
        tokens = tokens + sinusoids(tokens.shape[1], self.dim, tokens)
        return zeroed(tokens, real), real

    def placed(self, size: Sequence[int]) -> tuple[int, ...]:
        return tuple(size)

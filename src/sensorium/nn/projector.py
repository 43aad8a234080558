"""Tokens of a stream made into vectors for a language model: linear, a perceptron, a resampler, or pixel shuffle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded, zeroed
from sensorium.nn.cross_attention import CrossBlock
from sensorium.nn.positional_encoding import grid_sinusoids

Kind = Literal["linear", "mlp", "resampler", "shuffle"]
SIDE = 2
"""Pixel shuffle merges squares of this many tokens per side; along a single axis, as many tokens as a square has."""


class Projector(nn.Module):
    """Tokens ``[B, N, D]`` to vectors ``[B, M, H]`` at the scale of word embeddings, with their mask.

    Sources: linear, https://arxiv.org/abs/2304.08485; perceptron, https://arxiv.org/abs/2310.03744; resampler (learnt
    queries that attend to the tokens), https://arxiv.org/abs/2204.14198; pixel shuffle (four neighbouring tokens become
    one of four times the width, then a perceptron), https://arxiv.org/abs/2404.16821, § 3.1.

    Args:
        dim: Width D of the tokens.
        width: Width H of the language model.
        kind: The layers.
        tokens: Number M of vectors of a resampler. Pixel shuffle makes a quarter of the tokens, the others keep them all.
        embedding_rms: Root mean square of a word embedding, where the scale of the vectors begins.
    """

    def __init__(self, dim: int, width: int, kind: Kind, tokens: int, embedding_rms: float) -> None:
        super().__init__()
        self.dim, self.kind = dim, kind
        self.queries = nn.Parameter(torch.randn(tokens, dim) * dim**-0.5) if kind == "resampler" else None
        heads = next(n for n in (4, 2, 1) if dim % n == 0)
        self.look = CrossBlock(dim, heads) if kind == "resampler" else None
        self.project: nn.Module = nn.Linear(dim, width)
        if kind != "linear":
            inputs = dim * SIDE**2 if kind == "shuffle" else dim
            self.project = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
        self.scale = nn.Parameter(torch.tensor(embedding_rms))

    def forward(self, part: Encoded) -> tuple[Tensor, Tensor]:
        """Return the vectors ``[B, M, H]`` of a stream, zero where it has none, and the mask ``[B, M]``."""
        tokens, mask = part.tokens, part.mask & part.present[:, None]
        if part.grid and math.prod(part.grid) == tokens.shape[1]:
            tokens = tokens + grid_sinusoids(part.grid, self.dim, tokens)
        if self.queries is not None and self.look is not None:
            tokens = self.look(self.queries.expand(len(tokens), -1, -1), tokens, mask)
            mask = mask.any(dim=1, keepdim=True).expand(-1, tokens.shape[1])
        if self.kind == "shuffle":
            tokens, mask = shuffled(zeroed(tokens, mask), mask, part.grid)
        vectors = F.rms_norm(self.project(tokens), (self.project_width,)) * self.scale
        return zeroed(vectors, mask), mask

    @property
    def project_width(self) -> int:
        """Width H."""
        last = self.project[-1] if isinstance(self.project, nn.Sequential) else self.project
        assert isinstance(last, nn.Linear)
        return last.out_features


def shuffled(tokens: Tensor, mask: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return every four neighbouring tokens as one, ``[B, M, 4 D]``, and which of them have a real token ``[B, M]``.

    Args:
        tokens: ``[B, N, D]``, zero where ``mask`` is False.
        mask: Which are real ``[B, N]``.
        grid: Their shape. On the last two axes of a grid squares are merged; tokens without a grid, or on a single axis,
            are merged in their order. Sides that are not multiples are padded with zeros.
    """
    rows, count, dim = tokens.shape
    if len(grid) < 2 or math.prod(grid) != count:
        high, wide, outer, square = 1, count, 1, (1, SIDE**2)
    else:
        high, wide, outer, square = *grid[-2:], math.prod(grid[:-2]), (SIDE, SIDE)
    below, right = -high % square[0], -wide % square[1]
    data = F.pad(tokens.reshape(rows * outer, high, wide, dim), (0, 0, 0, right, 0, below))
    real = F.pad(mask.reshape(rows * outer, high, wide), (0, right, 0, below))
    height, width = (high + below) // square[0], (wide + right) // square[1]
    data = data.reshape(rows * outer, height, square[0], width, square[1], dim).transpose(2, 3)
    real = real.reshape(rows * outer, height, square[0], width, square[1]).transpose(2, 3)
    merged = data.reshape(rows, outer * height * width, square[0] * square[1] * dim)
    return merged, real.reshape(rows, outer * height * width, -1).any(dim=2)

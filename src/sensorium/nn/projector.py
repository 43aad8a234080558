"""Tokens of a stream made into words that a language model has never seen: linear, a perceptron, or a resampler."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded, zeroed
from sensorium.nn.cross_attention import CrossBlock
from sensorium.nn.positional_encoding import grid_sinusoids

Kind = Literal["linear", "mlp", "resampler"]


class Projector(nn.Module):
    """Tokens ``[B, N, D]`` to vectors ``[B, M, H]`` at the scale of word embeddings, with their mask.

    Sources: linear, https://arxiv.org/abs/2304.08485; perceptron, https://arxiv.org/abs/2310.03744; resampler (learnt
    queries that attend to the tokens), https://arxiv.org/abs/2204.14198.

    Args:
        dim: Width D of the tokens.
        width: Width H of the language model.
        kind: The layers.
        tokens: Number M of vectors of a resampler; the others keep the number of tokens.
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
            self.project = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width))
        self.scale = nn.Parameter(torch.tensor(embedding_rms))

    def forward(self, part: Encoded) -> tuple[Tensor, Tensor]:
        """Return the vectors ``[B, M, H]`` of a stream, zero where it has none, and the mask ``[B, M]``."""
        tokens, mask = part.tokens, part.mask & part.present[:, None]
        if part.grid and math.prod(part.grid) == tokens.shape[1]:
            tokens = tokens + grid_sinusoids(part.grid, self.dim, tokens)
        if self.queries is not None and self.look is not None:
            tokens = self.look(self.queries.expand(len(tokens), -1, -1), tokens, mask)
            mask = mask.any(dim=1, keepdim=True).expand(-1, tokens.shape[1])
        vectors = F.rms_norm(self.project(tokens), (self.project_width,)) * self.scale
        return zeroed(vectors, mask), mask

    @property
    def project_width(self) -> int:
        """Width H."""
        last = self.project[-1] if isinstance(self.project, nn.Sequential) else self.project
        assert isinstance(last, nn.Linear)
        return last.out_features

"""Transformer over patches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import zeroed
from sensorium.core.layout import Grid
from sensorium.core.pyramid_level import Level
from sensorium.core.registry import component
from sensorium.nn.attention import Trunk
from sensorium.nn.conv import CONV, clear
from sensorium.nn.positional_encoding import grid_sinusoids
from sensorium.nn.token_encoder import Stacked


@component
class Patch(Stacked):
    """A transformer over patches of an image, spectrogram, series or video; each patch is a token.

    Use it rather than ``convnet`` for many rows, for masked pretraining, or where a fusion reads tokens. Positions are
    sinusoidal, so shorter and longer inputs need no new weights.
    Source: ViT, https://arxiv.org/abs/2010.11929; for spectrograms AST, https://arxiv.org/abs/2104.01778.

    Args:
        dim: Width of the tokens; a multiple of ``heads``.
        patch: Cells of a patch along each axis; None: about 32 patches of a series, 8 × 8 of an image, 5³ of a video.
        depth: Transformer blocks.
        heads: Attention heads.
        dropout: Share of features and of attention dropped in training.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        patch: int | None = None,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        axes = len(layout.size)
        many = {1: 32, 2: 8, 3: 5}[axes]
        self.patch = tuple(min(patch, n) if patch else math.ceil(n / many) for n in layout.size)
        self.cut = CONV[axes](layout.channels, dim, self.patch, stride=self.patch)
        self.stack = Trunk(dim, depth, heads, dropout=dropout)

    def embed(self, data: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        missing = [-n % p for n, p in zip(data.shape[2:], self.patch, strict=True)]
        # F.pad counts axes from the last one.
        whole = F.pad(clear(data, mask), [n for extra in reversed(missing) for n in (0, extra)])
        grid = self.cut(whole)
        tokens = grid.flatten(2).transpose(1, 2)
        tokens = tokens + grid_sinusoids(grid.shape[2:], self.dim, tokens)
        if mask is None:
            return tokens, tokens.new_ones(tokens.shape[:2]).bool()
        # A patch is real where its first step is: what is padded stands at the end.
        first = mask[:, :: self.patch[0]]
        real = first.unsqueeze(-1).expand(*first.shape, math.prod(grid.shape[3:])).flatten(1)
        return zeroed(tokens, real), real

    @property
    def levels(self) -> tuple[Level, ...]:
        """One feature map: the tokens on their grid."""
        return (Level(self.dim, self.patch),)

    def placed(self, size: Sequence[int]) -> tuple[int, ...]:
        """A token for each patch, last axis fastest."""
        return tuple(-(-n // p) for n, p in zip(size, self.patch, strict=True))

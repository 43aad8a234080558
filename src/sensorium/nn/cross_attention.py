"""Tokens that look at other tokens than their own: cross-attention that leaves alone what has nothing to look at."""

from __future__ import annotations

from torch import Tensor, nn

from sensorium.nn.attention import Attention
from sensorium.nn.mlp import Mlp


class Look(nn.Module):
    """x + attention(norm(x), norm(context)): ``[B, N, D]`` looks at ``[B, M, D]``.

    A token that may see nothing stays exactly as it is: not even the output layer's bias reaches it.
    """

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.norm_context = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """``mask``: which of the context may be seen, ``[B, M]`` or ``[B, N, M]``."""
        found: Tensor = self.drop(self.attention(self.norm(tokens), self.norm_context(context), mask))
        reach = mask.any(dim=-1)
        reach = reach[:, None, None] if mask.dim() == 2 else reach.unsqueeze(-1)
        return tokens + found.masked_fill(~reach, 0.0)

    def weights(self, tokens: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Attention ``[B, N, M]`` of ``tokens`` to ``context`` under ``mask``."""
        return self.attention.weights(self.norm(tokens), self.norm_context(context), mask)


class CrossBlock(nn.Module):
    """A transformer block that looks elsewhere: ``Look``, then a perceptron, each added to what came in.

    Source: the crossmodal transformer, https://arxiv.org/abs/1906.00295, equations 3 to 5, normalising first.
    """

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.look = Look(dim, heads, dropout=dropout)
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim, dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """``mask`` ``[B, M]``: which of the context is real."""
        tokens = self.look(tokens, context, mask)
        added: Tensor = tokens + self.drop(self.mlp(self.norm(tokens)))
        return added

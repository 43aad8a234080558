"""Cross-attention blocks that leave tokens without visible context unchanged."""

from __future__ import annotations

from torch import Tensor, nn

from sensorium.nn.attention import Attention
from sensorium.nn.mlp import Mlp


class CrossAttentionLayer(nn.Module):
    """Residual cross-attention, x + attention(norm(x), norm(context)), of ``[B, N, D]`` to ``[B, M, D]``.

    A token without visible context is unchanged: not even the output bias is added.
    """

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.norm_context = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Attend from ``tokens`` ``[B, N, D]`` to ``context`` ``[B, M, D]``; ``mask`` of visible context: ``[B, M]`` or
        ``[B, N, M]``.
        """
        attended: Tensor = self.drop(self.attention(self.norm(tokens), self.norm_context(context), mask))
        reach = mask.any(dim=-1)
        reach = reach[:, None, None] if mask.dim() == 2 else reach.unsqueeze(-1)
        return tokens + attended.masked_fill(~reach, 0.0)

    def weights(self, tokens: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Return the attention weights ``[B, N, M]`` of ``tokens`` over ``context``, with ``mask`` as in ``forward``."""
        return self.attention.weights(self.norm(tokens), self.norm_context(context), mask)


class CrossBlock(nn.Module):
    """Pre-norm crossmodal transformer block: cross-attention and a perceptron, each with a residual connection.

    Source: https://arxiv.org/abs/1906.00295, equations 3 to 5, with normalisation first.
    """

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.look = CrossAttentionLayer(dim, heads, dropout=dropout)
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim, dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Attend from ``tokens`` to ``context``, of which ``mask`` ``[B, M]`` marks the real part."""
        tokens = self.look(tokens, context, mask)
        added: Tensor = tokens + self.drop(self.mlp(self.norm(tokens)))
        return added

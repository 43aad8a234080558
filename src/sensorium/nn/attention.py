"""Multi-head attention and transformer blocks that handle fully masked rows without NaN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.errors import ConfigError
from sensorium.nn.mlp import Mlp


class Attention(nn.Module):
    """Multi-head scaled dot-product attention of queries ``[B, N, D]`` to a context ``[B, M, D]``.

    A query with a fully masked context gets the zero vector before the output layer, and finite gradients.
    Source: softmax(QKᵀ/√d)V, https://arxiv.org/abs/1706.03762, equation 1.
    """

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"{heads} heads cannot share a width of {dim}", fix="choose dim as a multiple of heads")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.output = nn.Linear(dim, dim)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)  # [B, H, N, D/H]

    def weights(self, queries: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Return the attention weights ``[B, N, M]``, averaged over heads; 0 where nothing is visible.

        Args:
            queries: ``[B, N, D]``.
            context: ``[B, M, D]``.
            mask: Visible context, ``[B, M]`` for all queries or ``[B, N, M]``.
        """
        seen = mask.unsqueeze(1) if mask.dim() == 2 else mask
        query, key = self._split(self.query(queries)), self._split(self.key_value(context).chunk(2, dim=-1)[0])
        score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        hidden = ~seen.unsqueeze(1)
        share: Tensor = score.masked_fill(hidden, torch.finfo(score.dtype).min).softmax(dim=-1)
        return share.masked_fill(hidden, 0.0).mean(dim=1)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Attend from ``queries`` to ``context``.

        Args:
            queries: ``[B, N, D]``.
            context: ``[B, M, D]``.
            mask: Visible context, ``[B, M]`` for all queries or ``[B, N, M]``.
        """
        return self.attend(queries, *self.project(context), mask)

    def project(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values ``[B, H, M, D / H]`` of ``context`` ``[B, M, D]``, which a decoder keeps between steps."""
        key, value = self.key_value(context).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def attend(self, queries: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attend from ``queries`` ``[B, N, D]`` to a context given by its ``key`` and ``value`` (``project``); ``mask`` as
        in ``forward``."""
        seen = mask.unsqueeze(1) if mask.dim() == 2 else mask
        some = seen.any(dim=-1, keepdim=True)  # [B, 1 or N, 1]
        attended = F.scaled_dot_product_attention(
            self._split(self.query(queries)),
            key,
            value,
            # Fully masked rows see everything and their result is dropped: a softmax over nothing is NaN.
            attn_mask=(seen | ~some).unsqueeze(1),
            dropout_p=self.dropout if self.training else 0.0,
        )
        mixed: Tensor = self.output(attended.transpose(1, 2).flatten(2).masked_fill(~some, 0.0))
        return mixed


class Block(nn.Module):
    """Pre-norm transformer block: self-attention and a perceptron, each with a residual connection."""

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout=dropout)
        self.mlp = Mlp(dim, 4 * dim, dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        seen = self.norm_attention(tokens)
        tokens = tokens + self.drop(self.attention(seen, seen, mask))
        added: Tensor = tokens + self.drop(self.mlp(self.norm_mlp(tokens)))
        return added


class Trunk(nn.Module):
    """Stack of ``depth`` transformer blocks and a final normalisation; zero where masked.

    Source: https://arxiv.org/abs/2002.04745.
    """

    def __init__(self, dim: int, depth: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        tokens = self.drop(tokens)
        for block in self.blocks:
            tokens = block(tokens, mask)
        return torch.masked_fill(self.norm(tokens), ~mask.unsqueeze(-1), 0.0)

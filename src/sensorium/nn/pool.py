"""Masked pooling of tokens to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the mean ``[B, D]`` of the real ``tokens`` ``[B, N, D]`` by ``mask`` ``[B, N]``; zeros if none is real."""
    real = mask.unsqueeze(-1)
    total = tokens.masked_fill(~real, 0.0).sum(dim=1)
    return total / real.sum(dim=1).clamp(min=1).to(total.dtype)


def masked_max(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the maximum ``[B, D]`` of the real ``tokens`` ``[B, N, D]`` by ``mask`` ``[B, N]``; zeros if none is real."""
    best = tokens.masked_fill(~mask.unsqueeze(-1), torch.finfo(tokens.dtype).min).amax(dim=1)
    return best.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)


class MeanMax(nn.Module):
    """Concatenated mean and maximum of the real tokens, mixed by one linear layer: ``[B, N, D]`` to ``[B, D]``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * dim, dim)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        mixed: Tensor = self.mix(torch.cat([masked_mean(tokens, mask), masked_max(tokens, mask)], dim=1))
        return mixed

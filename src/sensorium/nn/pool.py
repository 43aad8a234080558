"""Many tokens to one vector, looking at the real ones only."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean ``[B, D]`` of ``tokens`` ``[B, N, D]`` where ``mask`` is True; zeros where none is."""
    real = mask.unsqueeze(-1)
    total = tokens.masked_fill(~real, 0.0).sum(dim=1)
    return total / real.sum(dim=1).clamp(min=1).to(total.dtype)


def masked_max(tokens: Tensor, mask: Tensor) -> Tensor:
    """The maximum ``[B, D]`` of each feature of ``tokens`` ``[B, N, D]`` where ``mask`` is True; zeros where none is."""
    best = tokens.masked_fill(~mask.unsqueeze(-1), torch.finfo(tokens.dtype).min).amax(dim=1)
    return best.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)


class MeanMax(nn.Module):
    """Mean and largest value of the real tokens, mixed by one linear layer: ``[B, N, D]`` to ``[B, D]``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * dim, dim)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        mixed: Tensor = self.mix(torch.cat([masked_mean(tokens, mask), masked_max(tokens, mask)], dim=1))
        return mixed

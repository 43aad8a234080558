"""One stream's vector out of those of the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sensorium.core.batch import zeroed
from sensorium.nn.mlp import Mlp


class Guess(nn.Module):
    """A small network a stream that makes its vector from the other streams of the row, whichever are there."""

    def __init__(self, count: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(Mlp((count - 1) * (dim + 1), hidden, dim) for _ in range(count if count > 1 else 0))

    def forward(self, pooled: Tensor, here: Tensor) -> Tensor:
        """Vectors ``[B, S, D]`` and which are there ``[B, S]``, to a guess of each ``[B, S, D]`` that never looks at it."""
        clean = zeroed(pooled, here)
        if not len(self.networks):
            return torch.zeros_like(clean)
        # Which streams are there is told beside the vectors: zeros alone could mean either.
        told = torch.cat([clean, here.unsqueeze(-1).to(clean.dtype)], dim=-1)
        made = []
        for s, network in enumerate(self.networks):
            others = [i for i in range(here.shape[1]) if i != s]
            made.append(network(told[:, others].flatten(1)))
        return torch.stack(made, dim=1)

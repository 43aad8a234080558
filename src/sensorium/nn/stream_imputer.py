"""Imputation of a stream's vector from the vectors of the other streams."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sensorium.core.batch import zeroed
from sensorium.nn.mlp import Mlp


class StreamImputer(nn.Module):
    """One small network per stream that predicts its vector from the other streams present in the row."""

    def __init__(self, count: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(Mlp((count - 1) * (dim + 1), hidden, dim) for _ in range(count if count > 1 else 0))

    def forward(self, pooled: Tensor, presence: Tensor) -> Tensor:
        """Predict each vector ``[B, S, D]`` from the others; ``presence`` ``[B, S]`` marks the present vectors in
        ``pooled`` ``[B, S, D]``.
        """
        clean = zeroed(pooled, presence)
        if not len(self.networks):
            return torch.zeros_like(clean)
        # Presence is an input of its own: a zero vector alone would be ambiguous.
        inputs = torch.cat([clean, presence.unsqueeze(-1).to(clean.dtype)], dim=-1)
        made = []
        for s, network in enumerate(self.networks):
            others = [i for i in range(presence.shape[1]) if i != s]
            made.append(network(inputs[:, others].flatten(1)))
        return torch.stack(made, dim=1)

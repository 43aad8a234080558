"""Multilayer perceptron."""

from __future__ import annotations

from torch import Tensor, nn


class Mlp(nn.Module):
    """Perceptron with ``depth`` hidden layers of ``hidden_dim`` (linear, GELU, dropout) and a linear output of ``dim``."""

    def __init__(self, dim_in: int, hidden_dim: int, dim: int, *, depth: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(dim_in, hidden_dim), nn.GELU(), nn.Dropout(dropout)]
            dim_in = hidden_dim
        self.layers = nn.Sequential(*layers, nn.Linear(dim_in, dim))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y

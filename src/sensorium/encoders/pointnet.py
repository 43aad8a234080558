"""PointNet."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.layout import Points
from sensorium.core.registry import component
from sensorium.nn.conv import clear, norm
from sensorium.nn.pool import masked_max


class Shared(nn.Module):
    """A perceptron shared by all points of ``[B, C, N]``; zero where masked."""

    def __init__(self, widths: list[int], kind: Literal["batch", "layer"]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(norm(kind, b, 1) for _, b in pairs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer, normal in zip(self.layers, self.norms, strict=True):
            x = clear(F.relu(normal(layer(x))), mask)
        return x


class Align(nn.Module):
    """The paper's T-Net: predicts a 3 × 3 matrix for the positions of each cloud, initially the identity."""

    def __init__(self, channels: int, width: int, kind: Literal["batch", "layer"]) -> None:
        super().__init__()
        self.points = Shared([channels, width, 2 * width], kind)
        self.matrix = nn.Linear(2 * width, 9)
        nn.init.zeros_(self.matrix.weight)
        nn.init.zeros_(self.matrix.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        seen = masked_max(self.points(x, mask).transpose(1, 2), mask)
        turn = self.matrix(seen).reshape(-1, 3, 3) + torch.eye(3, dtype=x.dtype, device=x.device)
        return torch.cat([turn @ x[:, :3], x[:, 3:]], dim=1)


@component
class Pointnet(Encoder):
    """PointNet: a perceptron for each point, then max pooling; invariant to the order of points.

    Source: PointNet, https://arxiv.org/abs/1612.00593, § 4.2.

    Args:
        dim: Width of the tokens and of the vector.
        width: Features of a point in the first layer; each layer doubles them.
        depth: Layers before max pooling.
        align: Whether each cloud is first transformed by a predicted matrix (the paper's T-Net).
        tokens: ``one`` token, which is the vector, or one for each point, for fusions that read parts of the cloud.
        norm: ``batch`` learns faster; ``layer`` keeps rows independent (tiny batches, private training).
        dropout: Share of features dropped before the last layer in training.
    """

    reads = (Points,)

    def __init__(
        self,
        layout: Points,
        *,
        dim: int = 128,
        width: int = 32,
        depth: int = 3,
        align: bool = False,
        tokens: Literal["one", "points"] = "one",
        norm: Literal["batch", "layer"] = "batch",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim, self.each = dim, tokens == "points"
        self.align = Align(layout.channels, width, norm) if align else None
        widths = [width * 2**i for i in range(depth)]
        self.points = Shared([layout.channels, *widths], norm)
        self.head = nn.Sequential(nn.Linear(widths[-1], dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.token = nn.Linear(2 * widths[-1], dim) if self.each else None

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, N, C]``, ``mask`` ``[B, N]``; tokens ``[B, 1, D]`` or ``[B, N, D]``."""
        real = data.new_ones(data.shape[:2]).bool() if mask is None else mask
        x = clear(data.transpose(1, 2), real)
        if self.align is not None:
            x = self.align(x, real)
        points = self.points(x, real).transpose(1, 2)  # [B, N, C]
        largest = masked_max(points, real)
        pooled = self.head(largest)
        present = real.new_ones(real.shape[0])
        if self.token is None:
            return Encoded(pooled.unsqueeze(1), present.unsqueeze(1), pooled, present)
        # As for parts in the paper: each point beside the whole cloud.
        both = torch.cat([points, largest.unsqueeze(1).expand_as(points)], dim=2)
        return Encoded(zeroed(self.token(both), real), real, pooled, present)

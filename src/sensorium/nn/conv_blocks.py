"""Building blocks of convolutional networks: convolution with normalisation, and the output layer to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.nn.conv import CONV, cells, clear, norm, thin
from sensorium.nn.pool import MeanMax

Norm = Literal["batch", "layer", "none"]
Activation = Literal["relu", "relu6", "none"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class Unit(nn.Module):
    """Centred convolution, normalisation and activation over a grid whose first axis may end in padding.

    Masked cells must be zero in the input and are zero in the output, so padding never affects real cells.
    """

    def __init__(
        self,
        axes: int,
        dim_in: int,
        dim: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        kind: Norm = "batch",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.stride = stride
        # No bias before a normalisation, which has its own shift.
        self.conv = CONV[axes](dim_in, dim, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=kind == "none")
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.norm = nn.Identity() if kind == "none" else norm(kind, dim, axes)
        self.activation = nn.Identity() if activation == "none" else _ACTIVATIONS[activation](inplace=True)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Apply the layer to ``x`` ``[B, C, ...]`` with the ``mask`` ``[B, T]`` of its first axis; return both."""
        mask = thin(mask, self.stride)
        # Also cleared before normalisation: values in the padding must not enter its statistics.
        return clear(self.activation(self.norm(clear(self.conv(x), mask))), mask), mask


class Tail(nn.Module):
    """Output layer of a convolutional encoder: each cell a token, pooled by mean and maximum into the vector."""

    def __init__(self, channels: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.token = nn.Linear(channels, dim)
        self.pool = MeanMax(dim)

    def forward(self, x: Tensor, mask: Tensor | None, pyramid: Sequence[Tensor] = ()) -> Encoded:
        grid, real = cells(x, mask)
        tokens = zeroed(self.token(self.drop(grid)), real)
        pooled = self.pool(tokens, real)
        return Encoded(tokens, real, pooled, real.new_ones(real.shape[0]), tuple(x.shape[2:]), tuple(pyramid))


def ends(strides: Sequence[int]) -> tuple[int, ...]:
    """Return the indices of blocks after which the grid shrinks or ends, given the ``strides`` of all blocks (feature
    pyramid).
    """
    return tuple(i for i in range(len(strides)) if i + 1 == len(strides) or strides[i + 1] > 1)

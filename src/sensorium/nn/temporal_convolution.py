"""Dilated convolutions along time."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.nn.conv import clear


class DilatedBlock(nn.Module):
    """Two dilated convolutions with a shortcut; the receptive field is ``2 (kernel - 1) dilation`` earlier steps, or half
    of that on either side."""

    def __init__(self, dim_in: int, dim: int, kernel: int, dilation: int, causal: bool, dropout: float) -> None:
        super().__init__()
        self.reach, self.causal = (kernel - 1) * dilation, causal
        weight = nn.utils.parametrizations.weight_norm
        self.first = weight(nn.Conv1d(dim_in, dim, kernel, dilation=dilation))
        self.second = weight(nn.Conv1d(dim, dim, kernel, dilation=dilation))
        self.shortcut = nn.Conv1d(dim_in, dim, 1) if dim_in != dim else nn.Identity()
        self.drop = nn.Dropout1d(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = x
        for conv in (self.first, self.second):
            left = self.reach if self.causal else self.reach // 2
            y = self.drop(clear(F.relu(conv(F.pad(y, (left, self.reach - left)))), mask))
        return clear(F.relu(y + self.shortcut(x)), mask)

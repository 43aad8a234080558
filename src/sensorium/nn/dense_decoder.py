"""A decoder from feature maps of several scales to one map of the finest scale, steered by a vector of the row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.nn.conv import channels_last

GROUPS = 8
"""Groups of channels that are normalised together; rows stay independent."""


class DenseDecoder(nn.Module):
    """Upsamples from the coarsest map to the finest; on the way each finer map is added, projected to the same channels.

    The row's vector scales and shifts the features at every scale (FiLM), so that words or sounds may choose what is looked
    for. It starts without effect. Rows do not depend on each other.
    Source: U-Net, https://arxiv.org/abs/1505.04597, with added skips as in LinkNet, https://arxiv.org/abs/1707.03718; FiLM,
    https://arxiv.org/abs/1709.07871; group normalisation, https://arxiv.org/abs/1803.08494.

    Args:
        channels: Channels of each map, from fine to coarse.
        dim: Width of the row's vector.
        hidden: Channels of the finest scale; all others have twice as many, if their map does.
        dropout: Share of whole feature maps dropped at the coarsest scale in training.
    """

    def __init__(self, channels: Sequence[int], dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.widths = [min(hidden * min(2, i + 1), max(hidden, count)) for i, count in enumerate(channels)]
        self.skips = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(channels, self.widths, strict=True))
        self.steers = nn.ModuleList(nn.Linear(dim, 2 * w) for w in self.widths)
        for parameter in self.steers.parameters():
            nn.init.zeros_(parameter)
        self.blocks = nn.ModuleList(Block(w) for w in self.widths)
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(self.widths, self.widths[1:], strict=False))
        self.drop = nn.Dropout2d(dropout)

    def forward(self, maps: Sequence[Tensor], vector: Tensor) -> Tensor:
        """Return the features of the finest scale.

        Args:
            maps: ``[B, C, h, w]`` each, from fine to coarse.
            vector: ``[B, D]``.

        Returns:
            ``[B, hidden, h, w]`` of the finest map.
        """
        decoded: Tensor | None = None
        for i in reversed(range(len(maps))):
            skip = self.skips[i](channels_last(maps[i]))
            if decoded is None:
                decoded = self.drop(skip)
            else:
                wide = F.interpolate(self.narrow[i](decoded), skip.shape[2:], mode="bilinear", align_corners=False)
                decoded = skip + wide
            scale, shift = self.steers[i](vector)[:, :, None, None].chunk(2, dim=1)
            decoded = self.blocks[i](torch.addcmul(shift, decoded, 1 + scale))
        assert decoded is not None, "a decoder has at least one map"
        return decoded


class Block(nn.Module):
    """A residual block of two 3 × 3 convolutions, each after normalisation and ReLU.

    Source: pre-activation residual blocks, https://arxiv.org/abs/1603.05027.

    Args:
        width: Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        groups = next(g for g in range(min(GROUPS, width), 0, -1) if width % g == 0)
        self.norms = nn.ModuleList(nn.GroupNorm(groups, width) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.relu(norm(y)))
        return x + y

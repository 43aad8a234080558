"""Outputs of an encoder along time: its feature maps, or its tokens, at one rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.layout import Grid, Ids
from sensorium.core.pyramid_level import Level

STEP = 4
"""Steps of the input (10 ms each in a sound) that one step of the output stands for, where the encoder has the choice."""


class TimeMaps(nn.Module):
    """Steps ``[B, T, D]`` of one encoded stream: of the coarsest feature maps with a stride along time of at most ``step``
    and of those that are coarser; of an encoder without maps its tokens, averaged over the other axes.

    Args:
        layout: The stream's.
        levels: The feature maps that its encoder offers, from fine to coarse; none: its tokens are read.
        dim: Width of tokens.
        width: D.
        step: Most steps of the input in one step of the output; 1: as fine as the maps are.
    """

    def __init__(self, layout: Grid | Ids, levels: Sequence[Level], dim: int, width: int, *, step: int = STEP) -> None:
        super().__init__()
        fine = [i for i, level in enumerate(levels) if level.stride[0] <= step]
        self.first = fine[-1] if fine else 0
        self.strides = [level.stride[0] for level in levels[self.first :]]
        # Axes beside time (the bands of a spectrogram) become channels.
        size = layout.size if isinstance(layout, Grid) else (layout.length,)
        widths = [level.channels * math.prod(level.size(size)[1:]) for level in levels[self.first :]]
        self.project = nn.ModuleList(nn.Linear(channels, width) for channels in widths or [dim])

    @property
    def reads_maps(self) -> bool:
        """Whether it reads feature maps."""
        return bool(self.strides)

    @property
    def stride(self) -> int:
        """Steps of the input in one step of the output."""
        return self.strides[0] if self.strides else 1

    def forward(self, part: Encoded) -> tuple[Tensor, Tensor]:
        """Return the steps of ``part`` ``[B, T, D]``, zero where masked, and which are real ``[B, T]``."""
        tokens, real = _along_time(part)
        if not self.reads_maps:
            return zeroed(self.project[0](tokens), real), real
        maps = [level.movedim(2, 1).flatten(2) for level in part.pyramid[self.first :]]  # [B, t, channels]
        x = self.project[0](maps[0])
        for project, coarse, stride in zip(self.project[1:], maps[1:], self.strides[1:], strict=True):
            x = x + project(coarse).repeat_interleave(stride // self.strides[0], dim=1)[:, : x.shape[1]]
        steps = x.shape[1]
        place = torch.arange(steps, device=x.device) * real.shape[1] // max(steps, 1)
        real = real[:, place] if real.shape[1] else real.new_zeros(len(real), steps)
        return zeroed(x, real), real


def at_same_time(steps: Tensor, valid: Tensor, real: Tensor) -> Tensor:
    """Return the steps of another stream at the times of the steps of this one, ``[B, T, D]``; both are taken to begin and
    to end together.

    Args:
        steps: Those of the other stream ``[B, t, D]``, zero where masked.
        valid: Which of them are real ``[B, t]``.
        real: Which steps of this stream are real ``[B, T]``.
    """
    length, count = valid.sum(dim=1, keepdim=True), real.sum(dim=1, keepdim=True).clamp(min=1)
    place = ((torch.arange(real.shape[1], device=real.device) + 0.5) * length / count).long()
    place = place.minimum((length - 1).clamp(min=0)).clamp(min=0)
    return steps.gather(1, place[..., None].expand(-1, -1, steps.shape[2]))


def _along_time(part: Encoded) -> tuple[Tensor, Tensor]:
    """Tokens averaged over all axes but the first, and which steps have any."""
    rows, count = part.mask.shape
    if not part.grid or math.prod(part.grid) != count or count == 0:
        return part.tokens, part.mask
    mask = part.mask.reshape(rows, part.grid[0], -1)
    tokens = part.tokens.reshape(rows, part.grid[0], -1, part.tokens.shape[2]) * mask[..., None]
    return tokens.sum(dim=2) / mask.sum(dim=2, keepdim=True).clamp(min=1), mask.any(dim=2)

"""Random changes of pictures from a list, as many to each row as asked for: what to change need not be tuned."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.signal import tone
from sensorium.signal.augment import uniform

Change = Callable[[Tensor, Tensor], Tensor]


def _affine(x: Tensor, rows: list[list[Tensor | float]]) -> Tensor:
    """Pictures moved by a matrix of two rows and three columns in half widths and half heights; the border is repeated."""
    like = x.new_zeros(x.shape[0])
    theta = torch.stack([torch.stack([like + value for value in row], dim=1) for row in rows], dim=1)
    grid = F.affine_grid(theta, [x.shape[0], 1, *x.shape[2:]], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _turn(x: Tensor, by: Tensor) -> Tensor:
    angle = by * (30 * math.pi / 180)
    # In half widths and half heights a turn must be corrected by the picture's ratio, or it would shear.
    ratio = x.shape[2] / x.shape[3]
    return _affine(x, [[angle.cos(), -angle.sin() * ratio, 0.0], [angle.sin() / ratio, angle.cos(), 0.0]])


CHANGES: dict[str, Change] = {
    "identity": lambda x, by: x,
    "stretch": lambda x, by: tone.stretch(x),
    "equalise": lambda x, by: tone.equalise(x),
    "turn": _turn,
    "solarise": lambda x, by: tone.solarise(x, 1 - by.abs()),
    "saturate": lambda x, by: tone.saturate(x, 1 + 0.9 * by),
    "posterise": lambda x, by: tone.posterise(x, 8 - (4 * by.abs()).round()),
    "contrast": lambda x, by: tone.contrast(x, 1 + 0.9 * by),
    "brighten": lambda x, by: tone.brighten(x, 1 + 0.9 * by),
    "sharpen": lambda x, by: tone.sharpen(x, 1 + 0.9 * by),
    "shear across": lambda x, by: _affine(x, [[1.0, 0.3 * by, 0.0], [0.0, 1.0, 0.0]]),
    "shear down": lambda x, by: _affine(x, [[1.0, 0.0, 0.0], [0.3 * by, 1.0, 0.0]]),
    "move across": lambda x, by: _affine(x, [[1.0, 0.0, 0.6 * by], [0.0, 1.0, 0.0]]),
    "move down": lambda x, by: _affine(x, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.6 * by]]),
}
"""Pictures and a strength from -1 to 1: the fourteen of the paper, at the strengths of AutoAugment's table 6."""


def random_changes(pictures: Tensor, generator: torch.Generator, times: int = 2, most: float = 0.7) -> Tensor:
    """Pictures ``[B, C, H, W]`` of fractions 0 to 1, each with ``times`` changes drawn from the list, of random strength
    up to ``most`` of the largest.

    Source: RandAugment, https://arxiv.org/abs/1909.13719, with random magnitude (its section 4.4).
    """
    changes = list(CHANGES.values())
    rows = pictures.shape[0]
    for _ in range(times):
        which = torch.randint(len(changes), (rows,), generator=generator, device=generator.device).to(pictures.device)
        strength = uniform((rows,), -most, most, pictures, generator)
        changed = pictures.clone()
        for number in sorted(set(which.tolist())):
            index = (which == number).nonzero().squeeze(1)
            changed[index] = changes[number](pictures[index], strength[index])
        pictures = changed
    return pictures

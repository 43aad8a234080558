"""RandAugment: random picture transforms drawn from a fixed list, with no tuning."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.signal import colour_transforms
from sensorium.signal.augmentation import Moves, uniform
from sensorium.signal.geometry import frame_of, identity

Change = Callable[[Tensor, Tensor], Tensor]
Matrix = list[list[Tensor | float]]


def _turn(x: Tensor, by: Tensor) -> Matrix:
    angle = by * (30 * math.pi / 180)
    # Coordinates are in half widths and half heights: without the aspect ratio, a rotation would shear.
    ratio = x.shape[2] / x.shape[3]
    return [[angle.cos(), -angle.sin() * ratio, 0.0], [angle.sin() / ratio, angle.cos(), 0.0]]


MOVES: dict[str, Callable[[Tensor, Tensor], Matrix]] = {
    "turn": _turn,
    "shear across": lambda x, by: [[1.0, 0.3 * by, 0.0], [0.0, 1.0, 0.0]],
    "shear down": lambda x, by: [[1.0, 0.0, 0.0], [0.3 * by, 1.0, 0.0]],
    "move across": lambda x, by: [[1.0, 0.0, 0.6 * by], [0.0, 1.0, 0.0]],
    "move down": lambda x, by: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.6 * by]],
}
"""Geometric transforms by name: pictures and strength to a 2 × 3 matrix, in half widths and half heights."""


def _theta(x: Tensor, rows: Matrix) -> Tensor:
    like = x.new_zeros(x.shape[0])
    return torch.stack([torch.stack([like + value for value in row], dim=1) for row in rows], dim=1)


def _move(name: str) -> Change:
    """Return the transform that applies a matrix of ``MOVES``; the border is replicated."""

    def change(x: Tensor, by: Tensor) -> Tensor:
        grid = F.affine_grid(_theta(x, MOVES[name](x, by)), [x.shape[0], 1, *x.shape[2:]], align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    return change


CHANGES: dict[str, Change] = {
    "identity": lambda x, by: x,
    "stretch": lambda x, by: colour_transforms.stretch(x),
    "equalise": lambda x, by: colour_transforms.equalise(x),
    "turn": _move("turn"),
    "solarise": lambda x, by: colour_transforms.solarise(x, 1 - by.abs()),
    "saturate": lambda x, by: colour_transforms.saturate(x, 1 + 0.9 * by),
    "posterise": lambda x, by: colour_transforms.posterise(x, 8 - (4 * by.abs()).round()),
    "contrast": lambda x, by: colour_transforms.contrast(x, 1 + 0.9 * by),
    "brighten": lambda x, by: colour_transforms.brighten(x, 1 + 0.9 * by),
    "sharpen": lambda x, by: colour_transforms.sharpen(x, 1 + 0.9 * by),
    "shear across": _move("shear across"),
    "shear down": _move("shear down"),
    "move across": _move("move across"),
    "move down": _move("move down"),
}
"""Transforms by name: functions of pictures and a strength from -1 to 1. The fourteen of the paper, with the magnitudes of
AutoAugment's table 6."""


def random_changes(
    pictures: Tensor, generator: torch.Generator, times: int = 2, most: float = 0.7, moves: Moves | None = None
) -> Tensor:
    """Apply ``times`` random transforms to each picture, each of random strength.

    Source: RandAugment, https://arxiv.org/abs/1909.13719, with random magnitude (its section 4.4).

    Args:
        pictures: ``[B, C, H, W]`` with values 0 to 1.
        generator: Source of random numbers.
        times: The number of transforms of each picture.
        most: Largest strength, as a share of the maximum.
        moves: Receives the geometric transforms, as in ``augmentation``.
    """
    names, changes = list(CHANGES), list(CHANGES.values())
    rows = pictures.shape[0]
    for _ in range(times):
        which = torch.randint(len(changes), (rows,), generator=generator, device=generator.device).to(pictures.device)
        strength = uniform((rows,), -most, most, pictures, generator)
        changed = pictures.clone()
        frame = identity(rows, 2, pictures).clone()
        for number in sorted(set(which.tolist())):
            index = (which == number).nonzero().squeeze(1)
            changed[index] = changes[number](pictures[index], strength[index])
            if moves is not None and names[number] in MOVES:
                theta = _theta(pictures[index], MOVES[names[number]](pictures[index], strength[index]))
                frame[index] = frame_of(theta, pictures.shape[2], pictures.shape[3])
        if moves is not None:
            moves.append(frame)
        pictures = changed
    return pictures

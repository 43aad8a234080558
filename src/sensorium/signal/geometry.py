"""Frames: affine maps from original units to network grids, applied to boxes, points, masks and time spans.

A *frame* ``[B, A, A + 1]`` maps coordinates in the original of each row to coordinates in a grid. For pictures A = 2:
coordinates are ``(x, y)`` in pixels, x to the right and y down, and the pixel in row i and column j covers
``[j, j + 1) × [i, i + 1)``, with its centre at ``(j + 0.5, i + 0.5)``. For audio and series A = 1: coordinates are seconds
or steps, and cell i covers ``[i, i + 1)``.

Everything is computed elementwise, never by a matrix product: autocast and TF32 would round coordinates to whole pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the frame that applies ``inner`` and then ``outer``, both ``[B, A, A + 1]``."""
    axes = outer.shape[1]
    linear = (outer[:, :, :axes, None] * inner[:, None, :, :]).sum(dim=2)  # [B, A, A + 1]
    return torch.cat([linear[:, :, :axes], linear[:, :, axes:] + outer[:, :, axes:]], dim=2)


def apply_moves(frame: Tensor | None, moves: Sequence[Tensor] | None) -> Tensor | None:
    """Return ``frame`` after a sequence of ``moves``, each a frame, applied in order; None if ``frame`` is None."""
    for move in moves or ():
        frame = None if frame is None else compose(move, frame)
    return frame


def inverse(frame: Tensor) -> Tensor:
    """Return the inverse of ``frame`` ``[B, A, A + 1]`` for A of 1 or 2; zeros where it is singular."""
    axes = frame.shape[1]
    linear, shift = frame[:, :, :axes], frame[:, :, axes]
    if axes == 1:
        adjugate = torch.ones_like(linear)
    else:
        (a, b), (c, d) = linear[:, 0].unbind(1), linear[:, 1].unbind(1)
        adjugate = torch.stack([torch.stack([d, -b], dim=1), torch.stack([-c, a], dim=1)], dim=1)
    size = _determinant(frame)[:, None, None]
    back = torch.where(size == 0, 0.0, adjugate / torch.where(size == 0, 1.0, size))
    return torch.cat([back, -(back * shift[:, None]).sum(dim=2, keepdim=True)], dim=2)


def identity(rows: int, axes: int, like: Tensor) -> Tensor:
    """Return the identity frame ``[B, A, A + 1]`` for ``rows`` rows and ``axes`` axes, with the type and device of
    ``like``.
    """
    return torch.eye(axes, axes + 1, dtype=like.dtype, device=like.device).expand(rows, -1, -1)


def mirrored(frame: Tensor) -> Tensor:
    """Which rows ``[B]`` of ``frame`` are mirror images: left and right key points must then be swapped."""
    return _determinant(frame) < 0


def points(frame: Tensor, places: Tensor) -> Tensor:
    """Map ``places`` ``[B, N, A]`` of the original through ``frame``."""
    axes = frame.shape[1]
    return (frame[:, None, :, :axes] * places[:, :, None, :]).sum(dim=3) + frame[:, None, :, axes]


def boxes(frame: Tensor, corners: Tensor) -> Tensor:
    """Map boxes through ``frame``: ``corners`` ``[B, N, 4]`` (left, top, right, bottom) to their upright bounding
    boxes.
    """
    left, top, right, bottom = corners.unbind(2)
    four = torch.stack([left, top, right, top, right, bottom, left, bottom], dim=2)  # [B, N, 8]
    moved = points(frame, four.reshape(four.shape[0], -1, 2)).reshape(*four.shape[:2], 4, 2)
    return torch.cat([moved.amin(dim=2), moved.amax(dim=2)], dim=2)


def ellipses(frame: Tensor, corners: Tensor) -> Tensor:
    """Map boxes through ``frame``: ``corners`` ``[B, N, 4]`` (left, top, right, bottom) to the upright boxes around the
    ellipses that they held, which a rotation makes no larger.

    Equal to ``boxes`` where the frame only moves, scales and mirrors. Source: https://arxiv.org/abs/2106.13785.
    """
    centre = points(frame, (corners[..., :2] + corners[..., 2:]) / 2)
    half = (corners[..., 2:] - corners[..., :2]) / 2
    reach = (frame[:, None, :, :2] * half[:, :, None, :]).square().sum(dim=3).sqrt()
    return torch.cat([centre - reach, centre + reach], dim=2)


def spans(frame: Tensor, ends: Tensor) -> Tensor:
    """Map time spans through ``frame``: ``ends`` ``[B, N, 2]`` (start, end) to positions on the grid, the earlier end
    first.
    """
    return points(frame, ends.reshape(ends.shape[0], -1, 1)).reshape(ends.shape).sort(dim=2).values


def clipped(corners: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Clip boxes or spans to an extent; return them and the share ``[B, N]`` of each that lies inside.

    A box without an area is measured by those of its axes that have a length, and a single point counts as 1 inside, 0
    outside.

    Args:
        corners: Boxes ``[B, N, 4]`` or spans ``[B, N, 2]``.
        extent: ``[A]`` or ``[B, A]``, width before height.
    """
    axes = corners.shape[2] // 2
    low, high = corners[..., :axes], corners[..., axes:]
    most = extent.to(corners).expand(corners.shape[0], axes)[:, None]
    zero = torch.zeros_like(low)
    inner_low, inner_high = low.clamp(zero, most.expand_as(low)), high.clamp(zero, most.expand_as(high))
    length, kept = high - low, inner_high - inner_low
    inside = ((low >= 0) & (low <= most)).to(corners)
    share = torch.where(length > 0, kept / length.clamp_min(torch.finfo(length.dtype).tiny), inside)
    return torch.cat([inner_low, inner_high], dim=2), share.prod(dim=2)


def inside(places: Tensor, extent: Tensor) -> Tensor:
    """Whether each of ``places`` ``[B, N, A]`` lies within ``extent`` ``[A]`` or ``[B, A]`` (width before height):
    ``[B, N]``.
    """
    most = extent.to(places).expand(places.shape[0], places.shape[2])[:, None]
    return ((places >= 0) & (places < most)).all(dim=2)


def resample(
    maps: Tensor,
    frame_of_map: Tensor,
    frame_of_grid: Tensor,
    size: tuple[int, int],
    *,
    mode: Literal["nearest", "bilinear"] = "nearest",
    fill: float = 0.0,
) -> Tensor:
    """Resample maps ``[B, C, h, w]`` to another grid of the same original.

    For a mask in pixels of the original, ``frame_of_map`` is the ``identity`` and ``frame_of_grid`` the frame of the
    prepared
    picture; swap the two to map a prediction for each prepared pixel back.

    Args:
        maps: ``[B, C, h, w]``.
        frame_of_map: Frame from the original to the pixels of ``maps``.
        frame_of_grid: Frame from the original to the new grid.
        size: Height and width of the new grid.
        mode: ``nearest`` takes the pixel at the centre of each cell, for any type; ``bilinear`` interpolates, without
            anti-aliasing where it shrinks.
        fill: Value outside ``maps``.
    """
    rows, _, high, wide = maps.shape
    way = compose(frame_of_map, inverse(frame_of_grid))
    down, across = torch.meshgrid(
        torch.arange(size[0], device=maps.device), torch.arange(size[1], device=maps.device), indexing="ij"
    )
    middles = torch.stack([across, down], dim=2).flatten(0, 1).to(way) + 0.5  # [cells, 2]
    x, y = points(way, middles.expand(rows, -1, -1)).reshape(rows, *size, 2).unbind(3)
    inside = ((x >= 0) & (x < wide) & (y >= 0) & (y < high))[:, None]
    if mode == "nearest":
        column, row = x.floor().clamp(0, wide - 1).long(), y.floor().clamp(0, high - 1).long()
        index = (row * wide + column).flatten(1)[:, None].expand(-1, maps.shape[1], -1)
        sampled = maps.flatten(2).gather(2, index).reshape(*maps.shape[:2], *size)
    else:
        grid = torch.stack([2 * x / wide - 1, 2 * y / high - 1], dim=3).to(maps)
        sampled = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(inside, sampled, torch.as_tensor(fill, dtype=maps.dtype, device=maps.device))


def frame_of(theta: Tensor, height: int, width: int) -> Tensor:
    """Convert ``theta`` ``[B, 2, 3]`` of ``F.affine_grid`` to a frame from pixels before to pixels after.

    ``theta`` maps output to input positions in units of half the ``width`` and half the ``height``.
    """
    (a, b, e), (c, d, f) = theta[:, 0].unbind(1), theta[:, 1].unbind(1)
    back = torch.stack(
        [
            torch.stack([a, b * (width / height), (e + 1 - a - b) * (width / 2)], dim=1),
            torch.stack([c * (height / width), d, (f + 1 - c - d) * (height / 2)], dim=1),
        ],
        dim=1,
    )
    return inverse(back)


def frame_of_flip(flipped: Tensor, count: int, axis: int, axes: int, like: Tensor) -> Tensor:
    """Return the frame that mirrors selected rows along one axis.

    Args:
        flipped: Which rows are mirrored ``[B]``.
        count: Cells along the axis.
        axis: Axis of a place, 0 for x.
        axes: The number of axes.
        like: Tensor whose type and device are used.
    """
    frame = identity(len(flipped), axes, like).clone()
    frame[:, axis, axis] = torch.where(flipped, -1.0, 1.0).to(frame)
    frame[:, axis, axes] = torch.where(flipped, float(count), 0.0).to(frame)
    return frame


def frame_of_shift(by: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Return the one-axis frame ``[B, 1, 2]`` that multiplies by ``scale`` and then adds ``by`` ``[B]``."""
    return torch.stack([torch.zeros_like(by) + scale, by], dim=1)[:, None]


def _determinant(frame: Tensor) -> Tensor:
    if frame.shape[1] == 1:
        return frame[:, 0, 0]
    return frame[:, 0, 0] * frame[:, 1, 1] - frame[:, 0, 1] * frame[:, 1, 0]

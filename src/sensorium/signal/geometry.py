"""Where things lie: affine maps from a user's own units to what a network sees, and boxes, points, masks, spans under them.

A *frame* ``[B, A, A + 1]`` maps places in the original of each row to places in a grid. For pictures A = 2, places are
``(x, y)`` in pixels, x to the right, y down, and the pixel in row i and column j covers ``[j, j + 1) × [i, i + 1)``: its
middle is ``(j + 0.5, i + 0.5)``. For sound and series A = 1, places are seconds or steps, and cell i covers ``[i, i + 1)``.

All is done number by number, never by a matrix product: autocast and TF32 would round places to whole pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The frame that first goes through ``inner`` and then through ``outer``, both ``[B, A, A + 1]``."""
    axes = outer.shape[1]
    linear = (outer[:, :, :axes, None] * inner[:, None, :, :]).sum(dim=2)  # [B, A, A + 1]
    return torch.cat([linear[:, :, :axes], linear[:, :, axes:] + outer[:, :, axes:]], dim=2)


def followed(frame: Tensor | None, moves: Sequence[Tensor] | None) -> Tensor | None:
    """A frame after moves, each a frame, one after the other; None where there is none to begin with."""
    for move in moves or ():
        frame = None if frame is None else compose(move, frame)
    return frame


def inverse(frame: Tensor) -> Tensor:
    """The frame back, ``[B, A, A + 1]`` for A of 1 or 2; zeros where all places are mapped onto one line or point."""
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
    """The frame that leaves everything where it is, ``[B, A, A + 1]``."""
    return torch.eye(axes, axes + 1, dtype=like.dtype, device=like.device).expand(rows, -1, -1)


def mirrored(frame: Tensor) -> Tensor:
    """Which rows ``[B]`` are shown as in a mirror: left and right key points then change places."""
    return _determinant(frame) < 0


def points(frame: Tensor, places: Tensor) -> Tensor:
    """Where places ``[B, N, A]`` of the original come to lie."""
    axes = frame.shape[1]
    return (frame[:, None, :, :axes] * places[:, :, None, :]).sum(dim=3) + frame[:, None, :, axes]


def boxes(frame: Tensor, corners: Tensor) -> Tensor:
    """Boxes ``[B, N, 4]`` (left, top, right, bottom) of the original as the upright boxes around what they become."""
    left, top, right, bottom = corners.unbind(2)
    four = torch.stack([left, top, right, top, right, bottom, left, bottom], dim=2)  # [B, N, 8]
    moved = points(frame, four.reshape(four.shape[0], -1, 2)).reshape(*four.shape[:2], 4, 2)
    return torch.cat([moved.amin(dim=2), moved.amax(dim=2)], dim=2)


def spans(frame: Tensor, ends: Tensor) -> Tensor:
    """Spans of time ``[B, N, 2]`` (start, end) of the original as they lie in the grid, the earlier end first."""
    return points(frame, ends.reshape(ends.shape[0], -1, 1)).reshape(ends.shape).sort(dim=2).values


def clipped(corners: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """What of boxes ``[B, N, 4]`` or spans ``[B, N, 2]`` lies within an extent, and which share ``[B, N]`` of each that is.

    ``extent`` ``[A]`` or ``[B, A]`` is in the order of places: width before height. A box without an area counts by its
    axes that have a length, and wholly if it has none.
    """
    axes = corners.shape[2] // 2
    low, high = corners[..., :axes], corners[..., axes:]
    most = extent.to(corners).expand(corners.shape[0], axes)[:, None]
    zero = torch.zeros_like(low)
    inner_low, inner_high = low.clamp(zero, most.expand_as(low)), high.clamp(zero, most.expand_as(high))
    length, kept = high - low, inner_high - inner_low
    there = ((low >= 0) & (low <= most)).to(corners)
    share = torch.where(length > 0, kept / length.clamp_min(torch.finfo(length.dtype).tiny), there)
    return torch.cat([inner_low, inner_high], dim=2), share.prod(dim=2)


def inside(places: Tensor, extent: Tensor) -> Tensor:
    """Which places ``[B, N, A]`` lie within an extent ``[A]`` or ``[B, A]`` (width before height): ``[B, N]``."""
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
    """Maps ``[B, C, h, w]`` as they lie in another grid of ``size`` (height, width), by what both say of the same original.

    A mask in pixels of the original has the ``identity`` for ``frame_of_map``, and the frame of a prepared picture for
    ``frame_of_grid``. An answer for each prepared pixel goes back the other way around. ``nearest`` takes the pixel in
    which the middle of a cell falls, and any dtype; ``bilinear`` mixes its neighbours, and smooths no further where it
    makes a map smaller. ``fill`` stands where there is no map.
    """
    rows, _, high, wide = maps.shape
    way = compose(frame_of_map, inverse(frame_of_grid))
    down, across = torch.meshgrid(
        torch.arange(size[0], device=maps.device), torch.arange(size[1], device=maps.device), indexing="ij"
    )
    middles = torch.stack([across, down], dim=2).flatten(0, 1).to(way) + 0.5  # [cells, 2]
    x, y = points(way, middles.expand(rows, -1, -1)).reshape(rows, *size, 2).unbind(3)
    there = ((x >= 0) & (x < wide) & (y >= 0) & (y < high))[:, None]
    if mode == "nearest":
        column, row = x.floor().clamp(0, wide - 1).long(), y.floor().clamp(0, high - 1).long()
        index = (row * wide + column).flatten(1)[:, None].expand(-1, maps.shape[1], -1)
        found = maps.flatten(2).gather(2, index).reshape(*maps.shape[:2], *size)
    else:
        grid = torch.stack([2 * x / wide - 1, 2 * y / high - 1], dim=3).to(maps)
        found = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(there, found, torch.as_tensor(fill, dtype=maps.dtype, device=maps.device))


def frame_of(theta: Tensor, height: int, width: int) -> Tensor:
    """What ``F.affine_grid`` with ``theta`` ``[B, 2, 3]`` does to a picture, as a frame from pixels before to pixels after.

    ``theta`` goes the other way, from where a pixel will be to where it is taken from, in half widths and half heights.
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
    """The frame of rows mirrored where ``flipped`` ``[B]``, along the place's ``axis`` (0: x) of ``count`` cells."""
    frame = identity(len(flipped), axes, like).clone()
    frame[:, axis, axis] = torch.where(flipped, -1.0, 1.0).to(frame)
    frame[:, axis, axes] = torch.where(flipped, float(count), 0.0).to(frame)
    return frame


def frame_of_shift(by: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """The frame ``[B, 1, 2]`` of one axis that is first scaled and then moved on ``by`` ``[B]``."""
    return torch.stack([torch.zeros_like(by) + scale, by], dim=1)[:, None]


def _determinant(frame: Tensor) -> Tensor:
    if frame.shape[1] == 1:
        return frame[:, 0, 0]
    return frame[:, 0, 0] * frame[:, 1, 1] - frame[:, 0, 1] * frame[:, 1, 0]

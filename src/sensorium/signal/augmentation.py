"""Random changes of a whole batch that keep what the samples mean. Each row has its own, all from one generator.

Those that move something take ``moves``: where a list is given, what was drawn is put at its end, as a frame (see
``geometry``) from places before to places after.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.signal import colour_transforms
from sensorium.signal.geometry import frame_of, frame_of_flip, frame_of_shift

Moves = list[Tensor]


def uniform(shape: tuple[int, ...], low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers between ``low`` and ``high`` on the device of ``like``, drawn where the generator lives."""
    drawn = torch.rand(shape, generator=generator, device=generator.device)
    return (drawn * (high - low) + low).to(like.device)


def warp(
    pictures: Tensor, generator: torch.Generator, shift: float, scale: float, turn: float, moves: Moves | None = None
) -> Tensor:
    """Pictures ``[B, C, H, W]`` moved by up to ``shift`` of their size, scaled by up to ``scale``, turned by up to
    ``turn`` degrees; what comes in from outside is the border repeated."""
    rows, _, height, width = pictures.shape
    drawn = uniform((4, rows), -1, 1, pictures, generator)
    angle = drawn[0] * (turn * math.pi / 180)
    grow = torch.exp(drawn[1] * math.log1p(scale))
    cos, sin = angle.cos() / grow, angle.sin() / grow
    # The grid is in half widths and half heights: a turn must mix them in pixels, or it would shear.
    theta = torch.stack(
        [
            torch.stack([cos, -sin * (height / width), 2 * shift * drawn[2]], dim=1),
            torch.stack([sin * (width / height), cos, 2 * shift * drawn[3]], dim=1),
        ],
        dim=1,
    )
    if moves is not None:
        moves.append(frame_of(theta, height, width))
    grid = F.affine_grid(theta, [rows, 1, height, width], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jitter(pictures: Tensor, generator: torch.Generator, by: float) -> Tensor:
    """Standardised pictures ``[B, C, H, W]`` with contrast times 1 ± ``by`` and brightness ± ``by`` deviations."""
    drawn = uniform((2, pictures.shape[0], 1, 1, 1), -by, by, pictures, generator)
    return torch.addcmul(drawn[1], pictures, 1 + drawn[0])


def standard(pictures: Tensor, mean: list[float], deviation: list[float]) -> Tensor:
    """Pictures ``[..., C, H, W]`` uint8 as float32, standardised by channel."""
    middle, spread = (torch.tensor(values, device=pictures.device)[:, None, None] for values in (mean, deviation))
    return pictures.float().mul_(1 / 255).sub_(middle).div_(spread)


def moved(
    pictures: Tensor,
    generator: torch.Generator,
    *,
    strong: bool,
    turn: float | None = None,
    moves: Moves | None = None,
) -> Tensor:
    """Standardised pictures ``[B, C, H, W]`` shifted, scaled, turned, lit; ``strong``: more so, and a box erased.

    ``turn``: the largest turn in degrees, where it is not to be the usual one.
    """
    shift, scale, usual, light = (0.15, 0.25, 20.0, 0.25) if strong else (0.08, 0.1, 10.0, 0.1)
    turned = warp(pictures, generator, shift, scale, usual if turn is None else turn, moves)
    pictures = jitter(turned, generator, light)
    return erase(pictures, generator) if strong else pictures


def erase(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures with a box of a sixth to a half of each side put to zero
    (Random Erasing, https://arxiv.org/abs/1708.04896)."""
    rows, _, height, width = pictures.shape
    drawn = uniform((5, rows, 1), 0, 1, pictures, generator)

    def inside(count: int, place: Tensor, extent: Tensor) -> Tensor:
        size = extent * (1 / 3) + 1 / 6
        at = (torch.arange(count, device=pictures.device) + 0.5) / count
        start = place * (1 - size)
        return (at >= start) & (at < start + size)

    box = inside(height, drawn[0], drawn[1])[:, :, None] & inside(width, drawn[2], drawn[3])[:, None, :]
    box = box & (drawn[4] < 0.5)[:, :, None]
    return pictures.masked_fill(box[:, None], 0.0)


def crop(pictures: Tensor, generator: torch.Generator, least: float = 0.35, moves: Moves | None = None) -> Tensor:
    """A box of each picture ``[B, C, H, W]``, of ``least`` to all of its area and up to a third wider or higher, brought to
    the whole size (Inception's crop, https://arxiv.org/abs/1409.4842)."""
    rows = pictures.shape[0]
    drawn = uniform((4, rows), 0, 1, pictures, generator)
    area = least + (1 - least) * drawn[0]
    ratio = torch.exp((2 * drawn[1] - 1) * math.log(4 / 3))
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    zero = torch.zeros_like(wide)
    # In half widths and heights: where the box's middle lies, as far as it may go.
    across, down = (2 * drawn[2] - 1) * (1 - wide), (2 * drawn[3] - 1) * (1 - high)
    theta = torch.stack([torch.stack([wide, zero, across], 1), torch.stack([zero, high, down], 1)], 1)
    if moves is not None:
        moves.append(frame_of(theta, pictures.shape[2], pictures.shape[3]))
    grid = F.affine_grid(theta, [rows, 1, *pictures.shape[2:]], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def flip(pictures: Tensor, generator: torch.Generator, axis: int, moves: Moves | None = None) -> Tensor:
    """Half of the pictures mirrored along an axis."""
    half = uniform((pictures.shape[0], 1, 1, 1), 0, 1, pictures, generator) < 0.5
    if moves is not None:
        moves.append(frame_of_flip(half.flatten(), pictures.shape[axis], 3 - axis, 2, pictures))
    return torch.where(half, pictures.flip(axis), pictures)


def recolour(pictures: Tensor, generator: torch.Generator, by: float) -> Tensor:
    """Pictures of fractions 0 to 1 with brightness, contrast and saturation times 1 ± ``by`` and hue turned by up to a
    quarter of ``by`` (colour jitter, https://arxiv.org/abs/2002.05709, appendix A)."""
    light, contrast, colour = 1 + uniform((3, pictures.shape[0]), -by, by, pictures, generator)
    hue = uniform((pictures.shape[0],), -by / 4, by / 4, pictures, generator)
    toned = colour_transforms.contrast(colour_transforms.brighten(pictures, light), contrast)
    return colour_transforms.turn_hue(colour_transforms.saturate(toned, colour), hue)


def hide_bands(data: Tensor, mask: Tensor, generator: torch.Generator, times: int = 1) -> Tensor:
    """Standardised spectrograms ``[B, frames, bands]`` with stretches of time and of frequency put to zero, ``times``
    each: up to 12 % of a row's real frames and up to 15 % of the bands (SpecAugment, https://arxiv.org/abs/1904.08779)."""
    rows, steps, bands = data.shape
    count = mask.sum(dim=1, keepdim=True)  # [B, 1]
    step, band = torch.arange(steps, device=data.device), torch.arange(bands, device=data.device)
    keep_step = torch.ones((rows, steps), dtype=torch.bool, device=data.device)
    keep_band = torch.ones((rows, bands), dtype=torch.bool, device=data.device)
    for drawn in uniform((times, 4, rows, 1), 0, 1, data, generator):
        width = drawn[0] * 0.12 * count
        start = drawn[1] * (count - width)
        keep_step &= (step < start) | (step >= start + width)
        width = drawn[2] * 0.15 * bands
        start = drawn[3] * (bands - width)
        keep_band &= (band < start) | (band >= start + width)
    return data * keep_step[:, :, None] * keep_band[:, None, :]


def slide(data: Tensor, mask: Tensor, generator: torch.Generator, most: float, moves: Moves | None = None) -> Tensor:
    """Series ``[B, T, C]`` moved in time by up to ``most`` of each row's real steps; its first or last step is repeated
    where nothing comes in."""
    last = (mask.sum(dim=1, keepdim=True) - 1).clamp_min(0)  # [B, 1]
    by = (uniform((data.shape[0], 1), -most, most, data, generator) * (last + 1)).round().long()
    if moves is not None:
        moves.append(frame_of_shift(-by[:, 0].float()))
    index = torch.arange(data.shape[1], device=data.device) + by
    index = torch.minimum(index.clamp_min(0), last)
    return data.gather(1, index[..., None].expand_as(data))


def shift(signal: Tensor, mask: Tensor, most: int, generator: torch.Generator, moves: Moves | None = None) -> Tensor:
    """Each row ``[B, T]`` moved by up to ``most`` samples either way, zeros coming in; nothing moves past its end."""
    rows, length = signal.shape
    by = torch.randint(-most, most + 1, (rows, 1), generator=generator, device=generator.device).to(signal.device)
    if moves is not None:
        moves.append(frame_of_shift(-by[:, 0].float()))
    padded = torch.nn.functional.pad(signal, (most, most))
    index = torch.arange(length, device=signal.device) + (most + by)
    return padded.gather(1, index) * mask


def hide_stretch(data: Tensor, mask: Tensor, generator: torch.Generator, most: float) -> Tensor:
    """Standardised series ``[B, T, C]`` with a stretch of up to ``most`` of each row's real steps put to zero."""
    count = mask.sum(dim=1, keepdim=True)
    drawn = uniform((2, data.shape[0], 1), 0, 1, data, generator)
    width = drawn[0] * most * count
    start = drawn[1] * (count - width)
    step = torch.arange(data.shape[1], device=data.device)
    return data.masked_fill(((step >= start) & (step < start + width))[..., None], 0.0)

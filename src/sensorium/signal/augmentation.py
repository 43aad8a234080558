"""Random, label-preserving augmentation of batches: each row draws its own parameters from one generator.

Geometric augmentations accept ``moves``: the transform that was drawn is appended to that list, as a frame (see
``geometry``) from coordinates before to coordinates after.
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
    """Draw uniform random numbers of a ``shape`` between ``low`` and ``high``, with ``generator``, on the device of
    ``like``.
    """
    drawn = torch.rand(shape, generator=generator, device=generator.device)
    return (drawn * (high - low) + low).to(like.device)


def warp(
    pictures: Tensor, generator: torch.Generator, shift: float, scale: float, turn: float, moves: Moves | None = None
) -> Tensor:
    """Shift, scale and rotate pictures at random; the border is replicated.

    Args:
        pictures: ``[B, C, H, W]``.
        generator: Source of random numbers.
        shift: Largest shift, as a share of the size.
        scale: Largest relative change of size.
        turn: Largest rotation in degrees.
        moves: Receives the transform of each row, if given.
    """
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
    """Randomly change contrast (times 1 ± ``by``) and brightness (± ``by`` deviations) of standardised ``pictures``.

    Numbers are drawn with ``generator``, one pair for each row of ``[B, C, H, W]``.
    """
    drawn = uniform((2, pictures.shape[0], 1, 1, 1), -by, by, pictures, generator)
    return torch.addcmul(drawn[1], pictures, 1 + drawn[0])


def standard(pictures: Tensor, mean: list[float], deviation: list[float]) -> Tensor:
    """Convert uint8 ``pictures`` ``[..., C, H, W]`` to float32, standardised with the ``mean`` and ``deviation`` of
    each channel.
    """
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
    """Randomly shift, scale, rotate and relight standardised pictures.

    Args:
        pictures: ``[B, C, H, W]``.
        generator: Source of random numbers.
        strong: Whether changes are larger and a random box is erased.
        turn: Largest rotation in degrees; None: 10, or 20 where ``strong``.
        moves: Receives the transforms, if given.
    """
    shift, scale, usual, light = (0.15, 0.25, 20.0, 0.25) if strong else (0.08, 0.1, 10.0, 0.1)
    turned = warp(pictures, generator, shift, scale, usual if turn is None else turn, moves)
    pictures = jitter(turned, generator, light)
    return erase(pictures, generator) if strong else pictures


def erase(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Random erasing: zero a box of a sixth to a half of each side in half of the ``pictures``, drawn with ``generator``.

    Source: https://arxiv.org/abs/1708.04896.
    """
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
    """Random resized crop: a box of each picture, scaled back to the full size.

    Source: Inception's crop, https://arxiv.org/abs/1409.4842.

    Args:
        pictures: ``[B, C, H, W]``.
        generator: Source of random numbers.
        least: Smallest share of the area that is kept. The aspect ratio varies by up to a third.
        moves: Receives the transforms, if given.
    """
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
    """Mirror half of the ``pictures``, chosen with ``generator``, along tensor ``axis``; ``moves`` receives the
    transforms.
    """
    half = uniform((pictures.shape[0], 1, 1, 1), 0, 1, pictures, generator) < 0.5
    if moves is not None:
        moves.append(frame_of_flip(half.flatten(), pictures.shape[axis], 3 - axis, 2, pictures))
    return torch.where(half, pictures.flip(axis), pictures)


def recolour(pictures: Tensor, generator: torch.Generator, by: float) -> Tensor:
    """Colour jitter of ``pictures`` with values 0 to 1, drawn with ``generator``.

    Brightness, contrast and saturation are multiplied by 1 ± ``by``; hue turns by up to a quarter of ``by``.
    Source: https://arxiv.org/abs/2002.05709, appendix A.
    """
    light, contrast, colour = 1 + uniform((3, pictures.shape[0]), -by, by, pictures, generator)
    hue = uniform((pictures.shape[0],), -by / 4, by / 4, pictures, generator)
    toned = colour_transforms.contrast(colour_transforms.brighten(pictures, light), contrast)
    return colour_transforms.turn_hue(colour_transforms.saturate(toned, colour), hue)


def hide_bands(data: Tensor, mask: Tensor, generator: torch.Generator, times: int = 1) -> Tensor:
    """SpecAugment: zero random stretches of time and of frequency in standardised spectrograms.

    Source: https://arxiv.org/abs/1904.08779.

    Args:
        data: ``[B, frames, bands]``.
        mask: Real frames ``[B, frames]``.
        generator: Source of random numbers.
        times: The number of stretches of each kind, each up to 12 % of a row's real frames or 15 % of the bands.
    """
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
    """Shift series in time at random; the first or last real step is repeated at the end that becomes empty.

    Args:
        data: ``[B, T, C]``.
        mask: Real steps ``[B, T]``.
        generator: Source of random numbers.
        most: Largest shift, as a share of a row's real steps.
        moves: Receives the transforms, if given.
    """
    last = (mask.sum(dim=1, keepdim=True) - 1).clamp_min(0)  # [B, 1]
    by = (uniform((data.shape[0], 1), -most, most, data, generator) * (last + 1)).round().long()
    if moves is not None:
        moves.append(frame_of_shift(-by[:, 0].float()))
    index = torch.arange(data.shape[1], device=data.device) + by
    index = torch.minimum(index.clamp_min(0), last)
    return data.gather(1, index[..., None].expand_as(data))


def shift(signal: Tensor, mask: Tensor, most: int, generator: torch.Generator, moves: Moves | None = None) -> Tensor:
    """Shift signals in time at random, filling with zeros; samples past a row's end are dropped.

    Args:
        signal: ``[B, T]``.
        mask: Real samples ``[B, T]``.
        most: Largest shift in samples, either way.
        generator: Source of random numbers.
        moves: Receives the transforms, if given.
    """
    rows, length = signal.shape
    by = torch.randint(-most, most + 1, (rows, 1), generator=generator, device=generator.device).to(signal.device)
    if moves is not None:
        moves.append(frame_of_shift(-by[:, 0].float()))
    padded = torch.nn.functional.pad(signal, (most, most))
    index = torch.arange(length, device=signal.device) + (most + by)
    return padded.gather(1, index) * mask


def hide_stretch(data: Tensor, mask: Tensor, generator: torch.Generator, most: float) -> Tensor:
    """Zero one random stretch of time in standardised series.

    Args:
        data: ``[B, T, C]``.
        mask: Real steps ``[B, T]``.
        generator: Source of random numbers.
        most: Longest stretch, as a share of a row's real steps.
    """
    count = mask.sum(dim=1, keepdim=True)
    drawn = uniform((2, data.shape[0], 1), 0, 1, data, generator)
    width = drawn[0] * most * count
    start = drawn[1] * (count - width)
    step = torch.arange(data.shape[1], device=data.device)
    return data.masked_fill(((step >= start) & (step < start + width))[..., None], 0.0)

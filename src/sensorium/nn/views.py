"""Random views of a prepared stream: what two of them share is what an encoder is to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sensorium.core.batch import Field, Ready
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Passable
from sensorium.core.layout import Graph, Grid, Ids, Layout, Points

NOISE, GAIN, SHRINK, ERASED, DROPPED = 0.15, 0.2, 0.4, 0.4, 0.3
"""At a strength of 1: noise and gain in deviations, the most that a crop cuts off a side, the largest share of an axis that
is erased, and the share of words, points or cells that are dropped or exchanged."""


def layouts_of(model: Passable) -> Mapping[str, Layout]:
    """The layouts of the streams of ``model``, as its tasks know them."""
    for task in model.tasks.values():
        if task.plain.goal.streams:
            return task.plain.goal.streams
    raise ConfigError("no task of the model knows the layouts of its streams")


def view(layout: Layout, field: Field, strength: float) -> Field:
    """A random view of every row of ``field``, a prepared stream of ``layout``; nothing changes at a ``strength`` of 0.

    Grids get another gain, noise, an erased block and, as images, a crop resized (SimCLR); along a padded axis blocks are
    erased in time or across it (SpecAugment). Words and points are dropped; cells of a table are exchanged with those of
    other rows (SCARF); node features of a graph are set to zero.
    Sources: Chen et al. 2020, https://arxiv.org/abs/2002.05709, § 3; Park et al. 2019, https://arxiv.org/abs/1904.08779;
    Bahri et al. 2021, https://arxiv.org/abs/2106.15147.
    """
    if isinstance(field, Ready):
        raise ConfigError("a stream that comes encoded has no views", fix="leave out freeze, or this objective")
    data, mask = field.data, field.mask
    if isinstance(layout, Grid):
        return replace(field, data=_grid(data, mask, strength), where=None)
    if isinstance(layout, Ids):
        real = (data != 0) if mask is None else mask
        kept = _kept(real, DROPPED * strength)
        return replace(field, data=data.masked_fill(~kept, 0), mask=None if mask is None else kept, where=None)
    if isinstance(layout, Points):
        real = torch.ones(data.shape[:2], dtype=torch.bool, device=data.device) if mask is None else mask
        kept = _kept(real, DROPPED * strength)
        jitter = NOISE * strength * 0.2 * data.std() * torch.randn_like(data)
        return replace(field, data=(data + jitter).masked_fill(~kept.unsqueeze(2), 0.0), mask=kept, where=None)
    if isinstance(layout, Graph):
        keep = torch.rand(len(data), 1, layout.channels, device=data.device) >= DROPPED * strength
        features = data[:, :, : layout.channels] * keep
        return replace(field, data=torch.cat([features, data[:, :, layout.channels :]], dim=2), where=None)
    return _exchanged(field, DROPPED * strength)


def _kept(real: Tensor, share: float) -> Tensor:
    """``real`` ``[B, N]`` without a random ``share``; never none of a row that has any."""
    chance = torch.rand(real.shape, device=real.device)
    first = chance.masked_fill(~real, -1.0).argmax(dim=1, keepdim=True)
    return ((chance >= share) & real).scatter(1, first, True) & real


def _exchanged(field: Field, share: float) -> Field:
    """Cells of a table, a random ``share`` of them those of other rows that have the stream."""
    rows = field.present.nonzero()[:, 0]
    if len(rows) < 2:
        return replace(field, where=None)
    other = rows[torch.randint(len(rows), field.data.shape, device=field.data.device)]
    swap = torch.rand(field.data.shape, device=field.data.device) < share
    mask = None if field.mask is None else torch.where(swap, field.mask.gather(0, other), field.mask)
    data = torch.where(swap, field.data.gather(0, other), field.data)
    if mask is not None:  # a row must keep a cell
        empty = ~mask.any(dim=1, keepdim=True)
        assert field.mask is not None
        mask, data = torch.where(empty, field.mask, mask), torch.where(empty, field.data, data)
    return replace(field, data=data, mask=mask, where=None)


def _grid(data: Tensor, mask: Tensor | None, strength: float) -> Tensor:
    axes = data.dim() - 2
    each = (len(data), 1, *[1] * axes)
    if mask is None and axes == 2 and min(data.shape[2:]) > 3:
        data = _cropped(data, SHRINK * strength)
    spread = data.flatten(1).std(dim=1, unbiased=False).reshape(each)
    middle = data.flatten(1).mean(dim=1).reshape(each)
    gain = 1 + GAIN * strength * torch.randn(len(data), data.shape[1], *[1] * axes, device=data.device)
    changed = middle + gain * (data - middle) + NOISE * strength * spread * torch.randn_like(data)
    if max(data.shape[2:]) == 1:  # a vector: numbers of it are left out
        gone = torch.rand_like(data) < DROPPED * strength
        return changed.masked_fill(gone, 0.0)
    gone = _block(data, ERASED * strength, one_axis=mask is not None and axes > 1)
    return torch.where(gone, middle, changed)


def _cropped(data: Tensor, most: float) -> Tensor:
    """Images ``[B, C, H, W]`` cropped by up to ``most`` of each side and resized."""
    keep = 1 - most * torch.rand(len(data), 2, device=data.device)
    shift = (1 - keep) * (2 * torch.rand(len(data), 2, device=data.device) - 1)
    theta = torch.cat([torch.diag_embed(keep), shift.unsqueeze(2)], dim=2)
    places = F.affine_grid(theta, list(data.shape), align_corners=False)
    return F.grid_sample(data, places.to(data.dtype), padding_mode="border", align_corners=False)


def _block(data: Tensor, most: float, *, one_axis: bool) -> Tensor:
    """Where a random block of each row lies ``[B, 1, *size]``, up to ``most`` of each axis; ``one_axis``: a band across one
    random axis."""
    size, rows = data.shape[2:], len(data)
    chosen = torch.randint(len(size), (rows,), device=data.device)
    block = torch.ones(rows, 1, *[1] * len(size), dtype=torch.bool, device=data.device)
    for axis, n in enumerate(size):
        length = most * torch.rand(rows, 1, device=data.device) * n
        start = torch.rand(rows, 1, device=data.device) * (n - length)
        step = torch.arange(n, device=data.device)
        inside = (step >= start) & (step < start + length)  # [B, n]
        if one_axis:
            inside = inside | (chosen != axis).unsqueeze(1)
        block = block & inside.reshape(rows, 1, *[n if a == axis else 1 for a in range(len(size))])
    return block


def several(layout: Layout, field: Field, strength: float, count: int) -> Field:
    """``count`` random views (``view``) of the present rows of ``field``, one after the other: ``count · n`` rows.

    ``layout`` and ``strength`` are as in ``view``.
    """
    index = field.rows
    part = replace(
        field,
        data=field.data[index],
        present=field.present[index],
        mask=None if field.mask is None else field.mask[index],
        where=None,
        frame=None,
        extent=None,
    )
    views = [view(layout, part, strength) for _ in range(count)]
    mask = None if part.mask is None else torch.cat([v.mask for v in views if v.mask is not None])
    return Field(torch.cat([v.data for v in views]), torch.cat([v.present for v in views]), mask)

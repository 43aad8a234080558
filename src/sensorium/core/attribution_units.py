"""Division of one stream of a row into removable parts: patches, words, cells of a table, groups of points."""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.core.layout import Grid, Ids, Layout, Points, Row

PARTS = {1: (32,), 2: (8, 8), 3: (8, 4, 4)}
"""Parts along each axis of a grid: a series with one channel, a picture or spectrogram, a video."""
CHANNELS = 16
"""A series with several channels has its own parts, 8 to 32, for each channel or, above this number, group of channels."""
GROUPS = 32
"""Groups of neighbouring points."""


class Units:
    """One row divided into parts. A removed part looks like missing data, which the model knows from training.

    A part of a grid becomes zero, the training mean of prepared data; a word is cut out and the rest moves up; points
    and nodes are masked, and so are cells of a table, which are then missing.

    Args:
        data: The row as prepared, ``[1, ...]`` as the layout says.
        mask: ``[1, N]``: the elements that are real.
        groups: Of ids and cells, which word or column each belongs to ``[N]``; -1: always kept. None: each stands alone.
        parts: Of grids, parts along each axis, in place of the usual.
    """

    def __init__(
        self, layout: Layout, data: Tensor, mask: Tensor | None, *, groups: Tensor | None = None, parts: int | None = None
    ) -> None:
        self.layout, self.data, self.mask = layout, data, mask
        index = _index(layout, data[0], groups, parts)
        if mask is not None:
            real = mask[0].reshape(1, -1, *[1] * (index.dim() - 2)) if isinstance(layout, Grid) else mask[0]
            index = index.masked_fill(~real, -1)
        unique, flat = torch.unique(index, return_inverse=True)
        self.index: Tensor = flat - int(bool((unique == -1).any()))
        """The part of each element ``[C, *size]``, ``[N]`` or ``[cells]``; -1 where nothing is real."""
        self.count = int(self.index.max()) + 1 if self.index.numel() else 0

    def left(self, keep: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return rows ``[n, ...]`` and masks with only the parts in ``keep`` ``[n, parts]``."""
        rows = keep.shape[0]
        # One column more, of what is no part and always stays: -1 looks it up.
        stays = torch.cat([keep, keep.new_ones(rows, 1)], dim=1)[:, self.index]
        data = self.data.expand(rows, *self.data.shape[1:])
        mask = None if self.mask is None else self.mask.expand(rows, -1)
        if isinstance(self.layout, Grid):
            return data * stays, mask
        if mask is None:
            mask = stays.new_ones(stays.shape)
        if isinstance(self.layout, Ids):
            order = (~(stays & mask)).long().sort(dim=1, stable=True).indices
            kept = (stays & mask).gather(1, order)
            return data.gather(1, order).masked_fill(~kept, 0), kept
        return data, mask & stays

    def spread(self, values: Tensor) -> Tensor:
        """Return ``values`` ``[parts]`` divided among the elements of each part; the sum is preserved."""
        size = torch.bincount(self.index[self.index >= 0].flatten(), minlength=self.count).clamp(min=1)
        share = torch.cat([values / size.to(values), values.new_zeros(1)])
        return share[self.index]

    def gathered(self, values: Tensor) -> Tensor:
        """The sum of the elements' ``values`` in each part ``[parts]``; a value shared by channels is divided among
        them."""
        if isinstance(self.layout, Grid) and values.shape[0] != self.index.shape[0]:
            values = (values / self.index.shape[0]).expand(self.index.shape)
        real = self.index >= 0
        return values.new_zeros(self.count).index_add_(0, self.index[real], values[real])


def _index(layout: Layout, data: Tensor, groups: Tensor | None, parts: int | None) -> Tensor:
    device = data.device
    if isinstance(layout, Grid):
        return _blocks(data, parts)
    if isinstance(layout, (Ids, Row)) and groups is not None:
        return groups.to(device)
    if isinstance(layout, Points):
        return _nearest(data[:, :3])
    count = len(layout.cardinalities) if isinstance(layout, Row) else data.shape[0]
    return torch.arange(count, device=device)


def _blocks(data: Tensor, parts: int | None) -> Tensor:
    """Return the block of each element ``[C, *size]``."""
    channels, *size = data.shape
    many = [parts] * len(size) if parts is not None else list(PARTS[len(size)])
    index = torch.zeros_like(data, dtype=torch.long)
    if len(size) == 1 and channels > 1:
        groups = min(channels, CHANNELS)
        if parts is None:
            many = [min(32, max(8, 64 // groups))]
        index = index + (torch.arange(channels, device=data.device) * groups // channels)[:, None]
    for axis, (length, requested) in enumerate(zip(size, many, strict=True)):
        count = min(requested, length)
        place = torch.arange(length, device=data.device) * count // length
        index = index * count + place.reshape(-1, *[1] * (len(size) - axis - 1))
    return index


def _nearest(place: Tensor) -> Tensor:
    """Return the group of each point ``[N]``: the nearest of some points far from each other."""
    chosen = [0]
    distance = (place - place[0]).square().sum(dim=1)
    while len(chosen) < min(GROUPS, len(place)):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (place - place[chosen[-1]]).square().sum(dim=1))
    return torch.cdist(place, place[chosen]).argmin(dim=1)

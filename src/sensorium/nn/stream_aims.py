"""Fixed-size summaries of a stream's data, which decoders are to rebuild from vectors."""

from __future__ import annotations

import math
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Graph, Grid, Ids, Layout, Points, Row

BINS: dict[int, tuple[int, ...]] = {1: (32,), 2: (16, 16), 3: (4, 8, 8)}
"""Cells of a summarised grid along each axis, by the number of axes."""
LARGEST = 4096
"""Numbers in the summary of a grid, at most, unless its channels alone are more."""
BUCKETS, CODES = 1024, 64
"""Maximum number of ids that are counted separately, and of distinguished codes of a category."""


def sections(layout: Layout) -> list[int]:
    """How many numbers of the summary of ``layout`` belong together, in order, each section in a unit of its own.

    A row of a table has a section for each cell, anything else has one.
    """
    if isinstance(layout, Row):
        return [_codes(n) for n in layout.cardinalities]
    if isinstance(layout, Grid):
        return [layout.channels * math.prod(_cells(layout)) * (2 if len(layout.size) == 1 else 1)]
    if isinstance(layout, Ids):
        return [min(layout.vocabulary, BUCKETS)]
    return [4 * layout.channels if isinstance(layout, Points) else 2 * layout.channels + layout.kinds]


def aims(layout: Layout, field: Field) -> Tensor:
    """The summary ``[B, F]`` of each row of ``field``, a stream of ``layout``; NaN where a row lacks it.

    * Grid: means over cells of equal share (and deviations, of a series); of the real part where the first axis is padded.
    * Ids: log(1 + occurrences) by id, ids beyond 1,024 sharing counts.
    * Row: the numbers, and codes as one column for each.
    * Points: mean, deviation, minimum and maximum of each channel.
    * Graph: mean and deviation of each node feature, and edges of each kind per node.
    """
    data, mask = field.data, field.mask
    if isinstance(layout, Grid):
        values = _grid(layout, data, mask)
    elif isinstance(layout, Ids):
        values = _occurrences(layout, data, mask)
    elif isinstance(layout, Row):
        values = _cells_apart(layout, data, mask)
    else:
        values = _moments(layout, data, mask)
    return values.masked_fill(~field.present.unsqueeze(1), torch.nan)


def _cells(layout: Grid) -> list[int]:
    """The size of a summarised grid."""
    size = [min(n, most) for n, most in zip(layout.size, BINS[len(layout.size)], strict=True)]
    while layout.channels * math.prod(size) > LARGEST and max(size) > 1:
        widest = size.index(max(size))
        size[widest] = (size[widest] + 1) // 2
    return size


def _codes(cardinality: int) -> int:
    return max(1, min(cardinality - 1, CODES))


def segment_means(data: Tensor, lengths: Tensor, count: int) -> Tensor:
    """The means ``[B, C, count, ...]`` of ``data`` ``[B, C, T, ...]`` over ``count`` segments of its first ``lengths``
    ``[B]`` steps.

    Segments are those of adaptive average pooling: of n steps, segment i has those from ⌊i n / count⌋ to
    ⌈(i + 1) n / count⌉. Zero where a row has no step.
    """
    total = F.pad(data.double().cumsum(dim=2), [0, 0] * (data.dim() - 3) + [1, 0])
    place = torch.arange(count, device=data.device)
    start = place * lengths[:, None] // count  # [B, count]
    end = -((-(place + 1) * lengths[:, None]) // count)
    shape = (len(data), 1, count, *[1] * (data.dim() - 3))

    def at(step: Tensor) -> Tensor:
        index = step.clamp(max=data.shape[2]).reshape(shape).expand(-1, data.shape[1], -1, *data.shape[3:])
        return total.gather(2, index)

    return ((at(end) - at(start)) / (end - start).clamp(min=1).reshape(shape)).to(data.dtype)


def _grid(layout: Grid, data: Tensor, mask: Tensor | None) -> Tensor:
    size = _cells(layout)
    real = data if mask is None else data.masked_fill(~mask.reshape(len(data), 1, -1, *[1] * (data.dim() - 3)), 0.0)
    lengths = mask.sum(dim=1) if mask is not None else torch.full((len(data),), data.shape[2], device=data.device)
    if len(size) == 1:
        mean, square = (segment_means(x, lengths, size[0]) for x in (real, real.square()))
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        return torch.cat([mean, deviation], dim=1).flatten(1)
    by_time = segment_means(real, lengths, size[0])
    rest = by_time.movedim(2, 1).flatten(0, 1)  # [B·T, C, ...]
    pooled = F.adaptive_avg_pool1d(rest, size[1]) if len(size) == 2 else F.adaptive_avg_pool2d(rest, (size[1], size[2]))
    return pooled.reshape(len(data), -1)


def _occurrences(layout: Ids, data: Tensor, mask: Tensor | None) -> Tensor:
    buckets = min(layout.vocabulary, BUCKETS)
    real = (data != 0) & (mask if mask is not None else torch.ones_like(data, dtype=torch.bool))
    counts = torch.zeros(len(data), buckets, device=data.device)
    return counts.scatter_add(1, data % buckets, real.float()).log1p()


def _cells_apart(layout: Row, data: Tensor, mask: Tensor | None) -> Tensor:
    real = torch.ones_like(data, dtype=torch.bool) if mask is None else mask
    columns = []
    for i, n in enumerate(layout.cardinalities):
        cell, filled = data[:, i], real[:, i]
        if n == 0:
            columns.append(cell.masked_fill(~filled, torch.nan).unsqueeze(1))
            continue
        code = cell.nan_to_num(0.0).long()
        known = filled & (code > 0)
        apart = F.one_hot((code - 1).clamp(min=0) % _codes(n), _codes(n)).to(data)
        columns.append(apart.masked_fill(~known.unsqueeze(1), torch.nan))
    return torch.cat(columns, dim=1)


def _moments(layout: Points | Graph, data: Tensor, mask: Tensor | None) -> Tensor:
    real = torch.ones(data.shape[:2], dtype=torch.bool, device=data.device) if mask is None else mask
    own = data[:, :, : layout.channels].masked_fill(~real.unsqueeze(2), 0.0)
    count = real.sum(dim=1, keepdim=True).clamp(min=1)
    mean = own.sum(dim=1) / count
    deviation = (own.square().sum(dim=1) / count - mean.square()).clamp(min=0).sqrt()
    if isinstance(layout, Points):
        some = real.any(dim=1, keepdim=True)
        low = own.masked_fill(~real.unsqueeze(2), torch.inf).amin(dim=1).where(some, 0.0)
        high = own.masked_fill(~real.unsqueeze(2), -torch.inf).amax(dim=1).where(some, 0.0)
        return torch.cat([mean, deviation, low, high], dim=1)
    edges = data[:, :, layout.channels : layout.channels + layout.count].masked_fill(~real.unsqueeze(2), 0.0)
    kinds = [(edges == kind).sum(dim=(1, 2)).unsqueeze(1) / count for kind in range(1, layout.kinds + 1)]
    return torch.cat([mean, deviation, *kinds], dim=1)


def places(sizes: list[int]) -> list[slice]:
    """Where parts of ``sizes`` lie, one after the other."""
    ends = list(accumulate(sizes))
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]

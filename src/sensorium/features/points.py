"""Hand-crafted features of point clouds."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sensorium.core import layout as layouts
from sensorium.core.batch import Field
from sensorium.core.registry import component
from sensorium.signal.series_statistics import moments, quantiles
from sensorium.signal.standardised import StandardisedFeatures

_AXES = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
_FURTHEST = 3.0  # upper end of histograms, in multiples of the usual radius or distance; larger values are clipped
_SIDE = 4  # boxes along each axis
_COMPACT = 256


@component
class Points(StandardisedFeatures):
    """Order-invariant point cloud features: moments, extents and distance distributions.

    Mean, covariance and principal extents; quantiles along each axis and of the distance to the centre; histograms of that
    distance and of pairwise distances (of up to 128 evenly spaced points); occupancy of a 4 × 4 × 4 grid around the centre;
    moments of the further channels; the number of points.
    Source: the shape distribution D2 of Osada et al. 2002, https://doi.org/10.1145/571647.571648.

    Args:
        bins: Number of bins of each distance histogram.
        pairs: Number of points whose pairwise distances are used.
    """

    used_by_default: ClassVar[bool] = False
    """Not yet evaluated on public point clouds."""

    def __init__(self, layout: layouts.Points, *, bins: int = 16, pairs: int = 128) -> None:
        super().__init__(layout)
        self.bins, self.pairs = bins, pairs

    @classmethod
    def reads(cls, layout: layouts.Layout) -> bool:
        """Any point cloud."""
        return isinstance(layout, layouts.Points)

    def measured(self, data: Tensor, mask: Tensor | None) -> Tensor:
        """Features of ``data`` ``[B, N, C]`` with ``mask`` ``[B, N]``."""
        real = data.new_ones(data.shape[:2], dtype=torch.bool) if mask is None else mask
        count = real.sum(dim=1, keepdim=True)
        divisor = count.clamp_min(1)
        places = data[..., :3]
        middle = places.sum(dim=1) / divisor
        gap = (places - middle[:, None]).masked_fill(~real[..., None], 0.0)
        covariance = gap.transpose(1, 2) @ gap / divisor[..., None]
        extents = torch.linalg.eigvalsh(covariance.cpu()).to(data.device).clamp_min(0).sqrt()
        radius = gap.norm(dim=2)
        usual = (radius.square().sum(dim=1, keepdim=True) / divisor).sqrt()
        distance, pairs = self._distances(places, real)
        mean = (distance * pairs).sum(dim=1, keepdim=True) / pairs.sum(dim=1, keepdim=True).clamp_min(1)
        along = places.transpose(1, 2)
        parts = [
            middle,
            torch.stack([covariance[:, i, j] for i, j in _AXES], dim=1),
            extents,
            quantiles(along, real[:, None]).flatten(1),
            quantiles(radius, real),
            quantiles(distance, pairs),
            _histogram(_over(radius, usual), real, self.bins),
            _histogram(_over(distance, mean), pairs, self.bins),
            _boxes(_over(gap, usual[..., None]), real),
            count.to(data).log1p(),
        ]
        if data.shape[2] > 3:
            others = moments(data[..., 3:].transpose(1, 2), real[:, None])
            others[..., 3] = others[..., 3].asinh()  # kurtosis is unbounded
            parts.append(others.flatten(1))
        return torch.cat(parts, dim=1)

    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Return all features except moments beyond the limit of 256 numbers."""
        return features[:, :_COMPACT]

    def _distances(self, places: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return pairwise distances of a subset of points ``[B, pairs * pairs]``, and which are valid."""
        # Sorting by all coordinates makes the subset independent of the input order.
        for axis in (2, 1, 0):
            key = places[..., axis].masked_fill(~real, torch.inf)
            order = key.argsort(dim=1, stable=True)
            places = places.gather(1, order[..., None].expand_as(places))
            real = real.gather(1, order)
        count = real.sum(dim=1, keepdim=True)
        share = (torch.arange(self.pairs, device=places.device) + 0.5) / self.pairs
        index = torch.where(count > self.pairs, (share * count).long(), torch.arange(self.pairs, device=places.device))
        valid = index < count
        index = index.clamp_max(places.shape[1] - 1)
        few = places.gather(1, index[..., None].expand(-1, -1, 3))
        gap = (few[:, :, None] - few[:, None]).norm(dim=3)
        both = valid[:, :, None] & valid[:, None] & ~torch.eye(self.pairs, dtype=torch.bool, device=places.device)
        return gap.flatten(1), both.flatten(1)


def _over(values: Tensor, scale: Tensor) -> Tensor:
    """Divide values by a scale; 0 where the scale is 0."""
    return values / torch.where(scale > 0, scale, 1.0)


def _shares(values: Tensor, low: float, bins: int) -> Tensor:
    """Return soft bin memberships of values from ``low`` to ``_FURTHEST``, each shared by the two nearest bins."""
    if bins == 1:
        return torch.ones_like(values)[..., None]
    place = (values.clamp(low, _FURTHEST) - low) / (_FURTHEST - low) * (bins - 1)
    return (1 - (place[..., None] - torch.arange(bins, device=values.device)).abs()).clamp_min(0)


def _histogram(values: Tensor, real: Tensor, bins: int) -> Tensor:
    """Return the soft histogram ``[B, bins]`` of the real values ``[B, N]``."""
    total = (_shares(values, 0.0, bins) * real[..., None]).sum(dim=1)
    return total / real.sum(dim=1, keepdim=True).clamp_min(1)


def _boxes(places: Tensor, real: Tensor) -> Tensor:
    """Return the share of points ``[B, N, 3]`` in each box ``[B, 4 * 4 * 4]``."""
    x, y, z = (_shares(places[..., axis], -_FURTHEST, _SIDE) for axis in range(3))
    plane = (x[..., :, None] * y[..., None, :]).flatten(2) * real[..., None]
    return (plane.transpose(1, 2) @ z).flatten(1) / real.sum(dim=1, keepdim=True).clamp_min(1)

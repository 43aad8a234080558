"""Hand-crafted features of time series."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Grid, Layout
from sensorium.core.registry import component
from sensorium.signal.fixed_length import course
from sensorium.signal.series_statistics import NAMES, channel_summary, correlations, powers
from sensorium.signal.standardised import StandardisedFeatures

_MOST, _MOST_COMPACT = 2000, 300
_PAIRED = 16  # largest number of channels with pairwise correlations
_BANDS = 16
_UNBOUNDED = [NAMES.index(name) for name in ("skewness", "kurtosis", "change", "spectral energy")]
_EVEN = 1e-4  # share of the power below which differences between bands are ignored


@dataclass(frozen=True)
class _FeatureCounts:
    """Number of features per channel, by kind."""

    statistics: int
    bands: int
    steps: int

    @property
    def width(self) -> int:
        """Total number of features per channel."""
        return self.statistics + self.bands + self.steps


@component
class Series(StandardisedFeatures):
    """Hand-crafted series features: statistics, spectrum and coarse shape of each channel, and correlations of channels.

    Moments, quantiles, crossings, autocorrelations; the share of power by frequency band; means over equal stretches of the
    row; the pairwise correlations of up to 16 channels; the length. About 2,000 numbers at most: with many channels each
    gets fewer features, and with more than 500, neighbouring channels are averaged.
    Source: the features of Anguita et al. 2013, https://www.esann.org/sites/default/files/proceedings/legacy/es2013-84.pdf.

    Args:
        steps: Number of stretches averaged in each channel.
    """

    def __init__(self, layout: Grid, *, steps: int = 24) -> None:
        super().__init__(layout)
        self.segment = next((n for n in (64, 32, 16) if layout.size[0] >= 2 * n), 16)
        full_counts = _FeatureCounts(len(NAMES), min(_BANDS, self.segment // 2), steps)
        self.parts = _fitting(full_counts, layout.channels, _MOST)
        self.channels = min(layout.channels, _MOST // self.parts.width)
        self.pairs = self.channels if self.channels <= _PAIRED else 0

    @classmethod
    def reads(cls, layout: Layout) -> bool:
        """Any series of more than one step."""
        return isinstance(layout, Grid) and len(layout.size) == 1 and layout.size[0] > 1

    def measured(self, data: Tensor, mask: Tensor | None) -> Tensor:
        """Features of ``data`` ``[B, C, T]`` with ``mask`` ``[B, T]``: by channel, then correlations and length."""
        if data.shape[1] > self.channels:
            data = course(data.transpose(1, 2), self.channels).transpose(1, 2)
        real = data.new_ones((len(data), data.shape[2]), dtype=torch.bool) if mask is None else mask
        lengths = real.sum(dim=1)
        parts = [self._statistics(data, real)]
        if self.parts.bands:
            parts.append(self._bands(data, real))
        if self.parts.steps:
            parts.append(course(data, self.parts.steps, lengths))
        blocks = [torch.cat(parts, dim=2).flatten(1)]
        if self.pairs > 1:
            blocks.append(correlations(data, real))
        return torch.cat([*blocks, lengths[:, None].to(data).log1p()], dim=1)

    def _statistics(self, data: Tensor, real: Tensor) -> Tensor:
        summary = channel_summary(data, real[:, None])
        # With heavy tails, standardising would leave most rows indistinguishable.
        summary[..., _UNBOUNDED] = summary[..., _UNBOUNDED].asinh()
        return summary[..., : self.parts.statistics]

    def _bands(self, data: Tensor, real: Tensor) -> Tensor:
        power = powers(data, real[:, None], self.segment)
        lowest = power[..., :1] + power[..., 1:2]
        power = torch.cat([lowest, power[..., 2:]], dim=-1)
        power = power.reshape(*power.shape[:-1], self.parts.bands, -1).sum(dim=-1)
        total = power.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)
        return (power / total + _EVEN).log()

    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Return the statistics, a coarser spectrum and shape, and the length: at most 300 numbers."""
        own, few = self.parts, _fitting(self.parts, self.channels, _MOST_COMPACT)
        channels = features[:, : self.channels * own.width].reshape(-1, self.channels, own.width)
        bands, steps = (
            channels[..., own.statistics : own.statistics + own.bands],
            channels[..., own.statistics + own.bands :],
        )
        parts = [channels[..., : few.statistics]]
        parts += [course(part, n) for part, n in ((bands, few.bands), (steps, few.steps)) if n]
        kept = torch.cat(parts, dim=2)
        if self.channels * few.width > _MOST_COMPACT:
            kept = course(kept.transpose(1, 2), _MOST_COMPACT // few.width).transpose(1, 2)
        return torch.cat([kept.flatten(1), features[:, -1:]], dim=1)


def _fitting(full: _FeatureCounts, channels: int, most: int) -> _FeatureCounts:
    """Reduce the feature counts per channel so that ``channels`` of them fit ``most`` numbers."""
    tries = [
        full,
        _FeatureCounts(full.statistics, min(full.bands, 8), min(full.steps, 8)),
        _FeatureCounts(full.statistics, 0, min(full.steps, 4)),
        _FeatureCounts(4, 0, min(full.steps, 4)),
        _FeatureCounts(min(full.statistics, 4), 0, 0),
    ]
    return next((counts for counts in tries if counts.width * channels <= most), tries[-1])

"""Hand-crafted features of spectrograms."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Grid, Layout
from sensorium.core.registry import component
from sensorium.signal.cepstrum import dct
from sensorium.signal.fixed_length import course
from sensorium.signal.series_statistics import quantiles
from sensorium.signal.standardised import StandardisedFeatures

_BANDS, _CHANNELS = 64, 3
_COARSE = 16
_CEPSTRA = 20
_AT = (0.1, 0.5, 0.9)
_COMPACT_STEPS = 6


@component
class Sound(StandardisedFeatures):
    """Hand-crafted sound features: band statistics, a coarse spectrogram, and cepstral means and deviations.

    For up to 64 bands the mean, deviation, quantiles and frame-to-frame change; means over equal stretches of the row in 16
    bands; the mean, deviation and change of the cosine transform over the bands; the course of the energy; the length. Of
    further channels (the deltas of the same sound) up to two are used.
    Source: Davis and Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420.

    Args:
        steps: Number of stretches of the coarse spectrogram.
    """

    used_by_default: ClassVar[bool] = False
    """For the same reason as in `picture`."""

    def __init__(self, layout: Grid, *, steps: int = 16) -> None:
        super().__init__(layout)
        self.channels = min(layout.channels, _CHANNELS)
        self.bands = min(layout.size[1], _BANDS)
        self.coarse = min(self.bands, _COARSE)
        self.cepstra = min(self.bands, _CEPSTRA)
        self.steps = steps

    @classmethod
    def reads(cls, layout: Layout) -> bool:
        """Grids of two axes, the first of them time."""
        return isinstance(layout, Grid) and len(layout.size) == 2 and layout.timed

    def measured(self, data: Tensor, mask: Tensor | None) -> Tensor:
        """Features of ``data`` ``[B, C, T, bands]`` with ``mask`` ``[B, T]``."""
        real = data.new_ones((len(data), data.shape[2]), dtype=torch.bool) if mask is None else mask
        lengths = real.sum(dim=1)
        sound = data[:, : self.channels]
        sound = course(sound, self.bands) if sound.shape[3] > self.bands else sound
        cepstra = dct(sound, self.cepstra).transpose(2, 3)  # [B, C, cepstra, T]
        sound = sound.transpose(2, 3)  # [B, C, bands, T]
        few = course(sound.transpose(2, 3), self.coarse).transpose(2, 3)
        present = real[:, None, None]
        loudness = sound.mean(dim=2)
        parts = [
            course(few, self.steps, lengths),
            self._moments(cepstra, present),
            self._moments(sound, present),
            quantiles(sound, present, _AT),
            course(loudness - _mean(loudness, real[:, None])[..., None], self.steps, lengths),
            lengths[:, None].to(data).log1p(),
        ]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    @staticmethod
    def _moments(x: Tensor, real: Tensor) -> Tensor:
        """Return mean and deviation, and mean size and deviation of the frame-to-frame change ``[B, C, bands, 4]``."""
        step, both = x[..., 1:] - x[..., :-1], real[..., 1:] & real[..., :-1]
        parts = [_mean(x, real), _deviation(x, real), _mean(step.abs(), both), _deviation(step, both)]
        return torch.stack(parts, dim=-1)

    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Return a coarser spectrogram, and means and deviations of cepstra and coarse bands: at most 256 numbers."""
        sizes = [self.channels * n for n in (self.coarse * self.steps, self.cepstra * 4, self.bands * 4)]
        grid, cepstra, bands, _ = torch.split(features, [*sizes, features.shape[1] - sum(sizes)], dim=1)
        few = 8 if self.channels == 1 else 4
        grid = grid.reshape(-1, self.channels, self.coarse, self.steps)
        fewer = course(grid, min(self.steps, _COMPACT_STEPS)).transpose(2, 3)
        fewer = course(fewer, min(self.coarse, few))
        moments = cepstra.reshape(-1, self.channels, self.cepstra, 4)[..., [0, 1]]
        change = bands.reshape(-1, self.channels, self.bands, 4)[..., [0, 1, 3]].transpose(2, 3)
        change = course(change, min(self.bands, few))
        parts = [fewer, moments, change, features[:, -1:]]
        return torch.cat([part.flatten(1) for part in parts], dim=1)


def _mean(x: Tensor, real: Tensor) -> Tensor:
    return x.masked_fill(~real, 0.0).sum(dim=-1) / real.sum(dim=-1).clamp_min(1)


def _deviation(x: Tensor, real: Tensor) -> Tensor:
    gap = (x - _mean(x, real)[..., None]).masked_fill(~real, 0.0)
    return (gap.square().sum(dim=-1) / real.sum(dim=-1).clamp_min(1)).sqrt()

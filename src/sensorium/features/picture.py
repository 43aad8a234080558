"""Hand-crafted features of images."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Field
from sensorium.core.layout import Grid, Layout
from sensorium.core.registry import component
from sensorium.nn.randomized_svd import principal
from sensorium.signal.fixed_length import course
from sensorium.signal.oriented_gradients import blocks, oriented
from sensorium.signal.standardised import StandardisedFeatures

_LARGEST = 64  # longer side in pixels at which gradients are computed
_THUMBNAIL = 16
_CELLS = 8  # cells along the longer side
_FAINT = 0.1  # gradients below this, in standard deviations of the pixels, are not edges
_SLICES = 8
_BINS = torch.linspace(-2.0, 2.0, 8)  # of standardised pixels
_FEW, _SOME = 4, 16  # numbers of channels up to which more features are computed
_COMPACT, _DIRECTIONS = 256, 128


@component
class Picture(StandardisedFeatures):
    """Hand-crafted image features: oriented gradients, a thumbnail, and colour statistics.

    Histograms of oriented gradients at 64 pixels a side; a thumbnail of 16 pixels; means, deviations and histograms of the
    channels. For several images, a video or a volume: the mean and deviation of each feature over eight evenly spaced
    slices.
    Source: Dalal and Triggs 2005, https://doi.org/10.1109/CVPR.2005.177.

    Args:
        orientations: Number of gradient directions.
    """

    directions: Tensor

    used_by_default: ClassVar[bool] = False
    """If recordings recur with new noise, as in `av_hard`, a linear model memorises them and cross-validation does not show
    it: accuracy 0.777 with image and sound features, 0.877 without."""

    def __init__(self, layout: Grid, *, orientations: int = 9) -> None:
        super().__init__(layout)
        self.orientations = orientations
        high, wide = layout.size[-2:]
        shrunk = max(high, wide, _LARGEST) / _LARGEST
        self.size = (max(round(high / shrunk), 1), max(round(wide / shrunk), 1))
        cell = max(2, -(-max(self.size) // _CELLS))
        self.cells = (max(round(self.size[0] / cell), 1), max(round(self.size[1] / cell), 1))
        self.thumbnail = tuple(min(n, _THUMBNAIL) for n in self.size)
        quarters = min(self.size[0], 2) * min(self.size[1], 2)
        # Number of colour features, which come last.
        self.colours = layout.channels * (2 + (quarters * len(_BINS) if layout.channels <= _FEW else 0))
        self.declare("directions", torch.float32, 2)

    @classmethod
    def reads(cls, layout: Layout) -> bool:
        """Images (two axes, neither of them time), several images, videos and volumes."""
        return isinstance(layout, Grid) and (len(layout.size) == 3 or (len(layout.size) == 2 and not layout.timed))

    def measured(self, data: Tensor, mask: Tensor | None) -> Tensor:
        """Features of ``data`` ``[B, C, H, W]`` or ``[B, C, N, H, W]``; ``mask`` covers the first axis after C."""
        lengths = None if mask is None else mask.sum(dim=1)
        if data.dim() == 4:
            return self._picture(data, lengths)
        count = data.new_full((len(data),), data.shape[2]) if lengths is None else lengths
        middles = (torch.arange(_SLICES, device=data.device) + 0.5) / _SLICES * count[:, None]
        index = middles.long().clamp_max(data.shape[2] - 1)
        rows = torch.arange(len(data), device=data.device)[:, None]
        slices = data.transpose(1, 2)[rows, index]  # [B, slices, C, H, W]
        described = self._picture(slices.flatten(0, 1), None).reshape(len(data), _SLICES, -1)
        mean, spread = described.mean(dim=1), described.std(dim=1, correction=0)
        return torch.cat([mean[:, : -self.colours], spread, mean[:, -self.colours :]], dim=1)

    def _picture(self, picture: Tensor, lengths: Tensor | None) -> Tensor:
        small = _resized(picture, self.size, lengths)
        channels = small.shape[1]
        edges = blocks(oriented(small, self.cells, self.orientations), _FAINT)
        parts = [edges, _resized(small.mean(dim=1, keepdim=True), self.thumbnail)]
        if channels > 1:
            side = 8 if channels <= _FEW else 4 if channels <= _SOME else 1
            parts.append(_resized(small, (min(side, self.size[0]), min(side, self.size[1]))))
        if channels <= _FEW:
            parts.append(_histograms(small))
        flat = small.flatten(2)
        parts += [flat.mean(dim=2), flat.std(dim=2, correction=0)]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def learn(self, sample: Tensor) -> None:
        # A seeded generator: the same rows give the same directions.
        self.keep("directions", principal(sample.cpu(), _DIRECTIONS, torch.Generator().manual_seed(0)))

    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Return the projections on the 128 principal directions, and the colour features: at most 256 numbers."""
        if features.shape[1] <= _COMPACT:
            return features
        colours = min(self.colours, _COMPACT - _DIRECTIONS)
        return torch.cat([features @ self.directions, features[:, -colours:]], dim=1)


def _resized(picture: Tensor, size: tuple[int, ...], lengths: Tensor | None = None) -> Tensor:
    """Average ``[B, C, H, W]`` over equal parts; the first ``lengths`` ``[B]`` rows of pixels are real."""
    if picture.shape[3] != size[1]:
        picture = course(picture, size[1])
    if picture.shape[2] != size[0] or lengths is not None:
        picture = course(picture.transpose(2, 3), size[0], lengths).transpose(2, 3)
    return picture


def _histograms(picture: Tensor) -> Tensor:
    """Soft histograms of each channel in each quarter ``[B, C, bins, 2, 2]``; a value is shared between two bins."""
    bins = _BINS.to(picture)[:, None, None]
    step = bins[1] - bins[0]
    values = picture.clamp(float(_BINS[0]), float(_BINS[-1]))[:, :, None]
    near = (1 - (values - bins).abs() / step).clamp_min(0)
    return F.adaptive_avg_pool2d(near.flatten(1, 2), (min(picture.shape[2], 2), min(picture.shape[3], 2)))

"""Random convolutional features of time series (MiniRocket)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Field
from sensorium.core.layout import Grid, Layout
from sensorium.core.registry import component
from sensorium.nn.randomized_svd import principal
from sensorium.signal.running_moments import subsampled
from sensorium.signal.standardised import StandardisedFeatures

_TAPS = 9
_HIGH = tuple(combinations(range(_TAPS), 3))  # taps where a kernel is 2; elsewhere it is -1
_DILATIONS = 32
_LONGEST = 4096
_ROWS, _READINGS = 512, 2**24
_DIRECTIONS = 64
_BATCH = 64
_GOLDEN = (math.sqrt(5) + 1) / 2


@component
class Rocket(StandardisedFeatures):
    """MiniRocket: for 84 dilated patterns of nine steps, the share of a series in which each exceeds a threshold.

    Convolutions with two-valued kernels, at dilations up to the length of the series, with and without padding; with
    several channels, each kernel sums a random subset. Thresholds are quantiles over training series. Suited to series in
    which local shapes matter, wherever they occur. Series of more than 4,096 steps are averaged over neighbours.
    Source: Dempster et al. 2021, MiniRocket, https://arxiv.org/abs/2012.08791.

    Args:
        count: Number of features, rounded down to a multiple of 84.
    """

    block = 2**13
    biases: Tensor
    chosen: Tensor
    directions: Tensor

    def __init__(self, layout: Grid, *, count: int = 2016) -> None:
        super().__init__(layout)
        self.readings = layout.size[0] * layout.channels
        self.pooled = -(-layout.size[0] // _LONGEST)
        per_kernel = max(count // len(_HIGH), 1)  # features per kernel
        self.dilations = _dilations(-(-layout.size[0] // self.pooled), per_kernel)
        self.declare("biases", torch.float32, 2)
        """Thresholds ``[84, thresholds per kernel]``, in the order of dilations."""
        self.declare("chosen", torch.bool, 3)
        """``[dilations, 84, C]``: the channels that each convolution sums."""
        self.declare("directions", torch.float32, 2)

    @classmethod
    def reads(cls, layout: Layout) -> bool:
        """Any series of more than one step."""
        return isinstance(layout, Grid) and len(layout.size) == 1 and layout.size[0] > 1

    @torch.no_grad()
    def fit(self, fields: Iterable[Field]) -> None:
        """Fit thresholds and scales on up to 512 evenly spaced training rows of ``fields``."""

        def rows() -> Iterator[Tensor]:
            for field in fields:
                lengths = [field.data.shape[2]] * len(field.data) if field.mask is None else field.mask.sum(dim=1).tolist()
                for row, length in zip(field.data, lengths, strict=True):
                    yield row[:, :length].float().clone()  # a view would keep its batch in memory

        sample = subsampled(rows(), max(16, min(_ROWS, _READINGS // self.readings)))
        draw = torch.Generator().manual_seed(0)
        shape = (len(self.dilations), len(_HIGH))
        self.keep("chosen", _subsets(shape, self.layout.channels, draw))
        picked = torch.randint(max(len(sample), 1), shape, generator=draw)
        self.keep("biases", self._levels(sample, picked))
        super().fit(_side_by_side(sample[i : i + _BATCH]) for i in range(0, len(sample), _BATCH))

    def learn(self, sample: Tensor) -> None:
        self.keep("directions", principal(sample.cpu(), _DIRECTIONS, torch.Generator().manual_seed(0)))

    def measured(self, data: Tensor, mask: Tensor | None) -> Tensor:
        """Return the share of steps above each threshold ``[B, count]``, for ``data`` ``[B, C, T]`` with ``mask``
        ``[B, T]``.
        """
        real = data.new_ones((len(data), data.shape[2]), dtype=torch.bool) if mask is None else mask
        data, lengths = self._pooled(data, real)
        parts, done = [], 0
        for i, (dilation, levels) in enumerate(self.dilations):
            response = convolved(data, dilation, self.chosen[i])
            inside = _inside(lengths, dilation, i, data.shape[2])
            response.view(len(data), -1, 2, data.shape[2]).masked_fill_(~inside[:, None], -torch.inf)
            count = inside.sum(dim=2).clamp_min(1).repeat(1, len(_HIGH) // 2)
            for j in range(done, done + levels):
                parts.append(torch.count_nonzero(response > self.biases[:, j, None], dim=2) / count)
            done += levels
        return torch.cat(parts, dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        errors: list[str] = rest[-1]
        per_kernel = sum(levels for _, levels in self.dilations)
        shapes = {"biases": (len(_HIGH), per_kernel), "chosen": (len(self.dilations), len(_HIGH), self.layout.channels)}
        for name, shape in shapes.items():
            buffer = getattr(self, name)
            if buffer.numel() and buffer.shape != shape:  # empty: not yet fitted
                errors.append(f"{prefix}{name} is of shape {tuple(buffer.shape)}, not {shape}")

    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Return the projections on the 64 principal directions of the training rows."""
        return features @ self.directions

    def _pooled(self, data: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Average neighbouring steps so that the longest series fits the limit; return the result and its lengths."""
        lengths = real.sum(dim=1)
        if self.pooled == 1:
            return data, lengths
        short = -data.shape[2] % self.pooled
        total = F.pad(data, (0, short)).reshape(*data.shape[:2], -1, self.pooled).sum(dim=3)
        count = F.pad(real, (0, short)).reshape(len(data), 1, -1, self.pooled).sum(dim=3)
        return total / count.clamp_min(1), (lengths + self.pooled - 1).div(self.pooled, rounding_mode="floor")

    def _levels(self, sample: list[Tensor], picked: Tensor) -> Tensor:
        """Return thresholds of each kernel at each dilation: quantiles of its response to one training row ``[84,
        each]``.
        """
        per_kernel = sum(levels for _, levels in self.dilations)
        if not sample:
            return torch.zeros(len(_HIGH), per_kernel)
        pooled = [self._pooled(row[None], row.new_ones((1, row.shape[1]), dtype=torch.bool)) for row in sample]
        longest = max(max(row.shape[2] for row, _ in pooled), 1)
        parts, drawn = [], 0
        for i, (dilation, levels) in enumerate(self.dilations):
            rows = [pooled[int(index)][0][0] for index in picked[i]]
            summed = [channels.to(row) @ row for channels, row in zip(self.chosen[i], rows, strict=True)]
            padded = torch.stack([F.pad(row, (0, longest - len(row))) for row in summed])
            response = (_kernels(padded)[:, None] @ _taps(padded, dilation))[:, 0]
            lengths = torch.cat([pooled[int(index)][1] for index in picked[i]])
            inside = _inside(lengths, dilation, i, longest)[torch.arange(len(_HIGH)), torch.arange(len(_HIGH)) % 2]
            # As in the paper: multiples of the golden ratio, which are evenly spread for any count.
            order = drawn + 1 + torch.arange(len(_HIGH) * levels, dtype=torch.float64).reshape(-1, levels)
            parts.append(_quantiles(response, inside, (order * _GOLDEN).remainder(1).to(response)))
            drawn += len(_HIGH) * levels
        thresholds = torch.cat(parts, dim=1)
        # For a constant series, rounding must not decide the comparison.
        return thresholds + 1e-5 * (1 + thresholds.abs())


def convolved(data: Tensor, dilation: int, chosen: Tensor) -> Tensor:
    """Apply the 84 kernels at a ``dilation`` to ``data`` ``[B, C, T]``, zero-padded: ``[B, 84, T]``.

    Each kernel sums its ``chosen`` channels ``[84, C]``. A matrix product is much faster here than ``conv1d`` with 84
    groups.
    """
    weights = (chosen[:, :, None] * _kernels(data)[:, None]).flatten(1)
    return weights @ _taps(data, dilation).flatten(1, 2)


def _kernels(like: Tensor) -> Tensor:
    """Kernel weights ``[84, 9]``."""
    kernels = like.new_full((len(_HIGH), _TAPS), -1.0)
    return kernels.scatter(1, torch.tensor(_HIGH, device=like.device), 2.0)


def _taps(x: Tensor, dilation: int) -> Tensor:
    """Return the input of each of the nine taps at each step of ``[..., T]``: ``[..., 9, T]``."""
    margin, steps = _TAPS // 2 * dilation, x.shape[-1]
    wide = F.pad(x, (margin, margin))
    return torch.stack([wide[..., tap * dilation : tap * dilation + steps] for tap in range(_TAPS)], dim=-2)


def _inside(lengths: Tensor, dilation: int, place: int, steps: int) -> Tensor:
    """Return the steps that count ``[B, 2, steps]``, for even and odd kernels.

    One parity counts all steps, the other only those where the kernel lies within the row, if there are any; ``place``
    alternates the two.
    """
    margin = _TAPS // 2 * dilation
    step = torch.arange(steps, device=lengths.device)
    lengths = lengths[:, None]
    real = step < lengths
    within = torch.where(lengths <= 2 * margin, real, (step >= margin) & (step < lengths - margin))
    return torch.stack([real, within] if place % 2 == 0 else [within, real], dim=1)


def _quantiles(values: Tensor, real: Tensor, at: Tensor) -> Tensor:
    """Return the quantiles ``[N, K]`` of each row ``[N, T]``, at its own probabilities."""
    ordered = values.masked_fill(~real, torch.inf).sort(dim=1).values
    place = at * (real.sum(dim=1, keepdim=True) - 1).clamp_min(0)
    low, high = (ordered.gather(1, index.long()) for index in (place.floor(), place.ceil()))
    quantiles = torch.where(low == high, low, low + (high - low) * (place - place.floor()))
    return quantiles.masked_fill(~real.any(dim=1, keepdim=True), 0.0)


def _dilations(steps: int, per_kernel: int) -> list[tuple[int, int]]:
    """Return exponentially spaced dilations up to the length of a series, and the number of thresholds of each."""
    most = min(per_kernel, _DILATIONS)
    top = math.log2(max((steps - 1) / (_TAPS - 1), 1))
    spread = Counter(int(2 ** (top * i / max(most - 1, 1))) for i in range(most))
    counts = {dilation: count * per_kernel // most for dilation, count in spread.items()}
    rest = per_kernel - sum(counts.values())
    return [(dilation, levels + (i < rest)) for i, (dilation, levels) in enumerate(sorted(counts.items()))]


def _subsets(shape: tuple[int, int], channels: int, draw: torch.Generator) -> Tensor:
    """Draw random subsets of channels ``[*shape, channels]`` of exponentially distributed size, at most nine."""
    most = math.log2(min(channels, _TAPS) + 1)
    count = (2 ** (torch.rand(*shape, generator=draw) * most)).long().clamp(1, channels)
    rank = torch.rand(*shape, channels, generator=draw).argsort(dim=-1).argsort(dim=-1)
    return rank < count[..., None]


def _side_by_side(rows: list[Tensor]) -> Field:
    lengths = torch.tensor([row.shape[1] for row in rows], device=rows[0].device)
    longest = int(lengths.max())
    data = torch.stack([F.pad(row, (0, longest - row.shape[1])) for row in rows])
    mask = torch.arange(longest, device=data.device) < lengths[:, None]
    return Field(data, torch.ones_like(lengths, dtype=torch.bool), mask)

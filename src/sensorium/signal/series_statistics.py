"""Statistical features of masked series: moments, quantiles, crossings, spectrum and correlations.

Series are ``[..., T]`` and masks ``[..., T]`` bool, broadcast against each other; masked steps are ignored. A feature that
is undefined (the skewness of a constant, a correlation of one step) is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sensorium.signal.stft import Framing, frames, magnitude, per_frame

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
LAGS = (1, 2, 4, 8)
SEGMENT = 64  # steps per segment of the spectrum
NAMES = (
    *("mean", "deviation", "skewness", "kurtosis"),
    *(f"quantile {q:g}" for q in QUANTILES),
    *("zero crossings", "change", "spectral energy", "spectral entropy", "spectral centroid"),
    *(f"autocorrelation {lag}" for lag in LAGS),
)
"""The features of one channel, in the order of ``channel_summary``."""


def summary(data: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return all features of series: those of each channel, then the correlation of each pair of channels.

    The result is ``[B, C * 20 + C * (C - 1) / 2]``, in the order of ``summary_names``.

    Args:
        data: ``[B, C, T]``.
        mask: Real steps ``[B, T]``; None: all.
    """
    real = _real(data[:, 0], mask)
    return torch.cat([channel_summary(data, real[:, None]).flatten(1), correlations(data, real)], dim=1)


def summary_names(channels: Sequence[str]) -> list[str]:
    """Return the names of the numbers of ``summary``, for ``channels`` with these names."""
    pairs = [f"correlation of {a} and {b}" for i, a in enumerate(channels) for b in channels[i + 1 :]]
    return [f"{name} of {channel}" for channel in channels for name in NAMES] + pairs


def channel_summary(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return all features of each series ``x`` ``[..., T]`` under ``mask``: ``[..., 20]``, in the order of ``NAMES``."""
    parts = (moments(x, mask), quantiles(x, mask), crossings(x, mask), spectrum(x, mask), autocorrelations(x, mask))
    return torch.cat(parts, dim=-1)


def moments(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return mean, deviation, skewness and excess kurtosis ``[..., 4]`` of ``x`` under ``mask``."""
    gap, mean, count = _centred(x, mask)
    variance = gap.square().sum(dim=-1) / count
    flat = variance <= _noise(mean, x)
    scale = torch.where(flat, 1.0, variance)
    skewness = (gap**3).sum(dim=-1) / count / scale.pow(1.5)
    kurtosis = (gap**4).sum(dim=-1) / count / scale.square() - 3
    deviation = torch.where(flat, 0.0, scale.sqrt())
    shape = (torch.where(flat, 0.0, value) for value in (skewness, kurtosis))
    return torch.stack([mean, deviation, *shape], dim=-1)


def quantiles(x: Tensor, mask: Tensor | None = None, at: Sequence[float] = QUANTILES) -> Tensor:
    """Return the quantiles ``at`` (0 to 1) of ``x`` under ``mask``: ``[..., len(at)]``, interpolated linearly as in
    numpy.
    """
    real = _real(x, mask)
    ordered = x.masked_fill(~real, torch.inf).sort(dim=-1).values
    count = real.sum(dim=-1, keepdim=True)
    place = torch.tensor(at, dtype=x.dtype, device=x.device) * (count - 1).clamp_min(0)
    low, high = (ordered.gather(-1, index.long()) for index in (place.floor(), place.ceil()))
    value = torch.where(low == high, low, low + (high - low) * (place - place.floor()))
    return value.masked_fill(count == 0, 0.0)


def crossings(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the rate of mean crossings and the mean absolute change per step of ``x`` under ``mask``: ``[..., 2]``."""
    real = _real(x, mask)
    gap, _, _ = _centred(x, mask)
    both = real[..., 1:] & real[..., :-1]
    count = both.sum(dim=-1).clamp_min(1)
    crossed = ((gap[..., 1:] >= 0) != (gap[..., :-1] >= 0)) & both
    change = (x[..., 1:] - x[..., :-1]).abs().masked_fill(~both, 0.0)
    return torch.stack([crossed.sum(dim=-1) / count, change.sum(dim=-1) / count], dim=-1)


def spectrum(x: Tensor, mask: Tensor | None = None, segment: int = SEGMENT) -> Tensor:
    """Return energy, entropy (0: one frequency, 1: flat) and centroid (0 to 1: half the rate) of ``powers``: ``[..., 3]``.

    ``x``, ``mask`` and ``segment`` are as in ``powers``.
    """
    power = powers(x, mask, segment)
    _, mean, _ = _centred(x, mask)
    energy = power.sum(dim=-1)
    nothing = energy <= _noise(mean, x)
    share = power / torch.where(nothing, 1.0, energy)[..., None]
    # Not xlogy: its slope at zero is infinite.
    entropy = -(share * share.clamp_min(torch.finfo(x.dtype).tiny).log()).sum(dim=-1) / math.log(power.shape[-1])
    centroid = share @ torch.linspace(0, 1, power.shape[-1], dtype=x.dtype, device=x.device)
    return torch.stack([energy, entropy, centroid], dim=-1).masked_fill(nothing[..., None], 0.0)


def powers(x: Tensor, mask: Tensor | None = None, segment: int = SEGMENT) -> Tensor:
    """Return the power spectrum ``[..., segment // 2 + 1]``, from 0 to half the sampling rate.

    Averaged over half-overlapping Hann-windowed segments after the mean is subtracted; padding has no effect. Real steps
    must
    come first. Source: Welch 1967, https://doi.org/10.1109/TAU.1967.1161901.

    Args:
        x: ``[..., T]``.
        mask: Real steps ``[..., T]``; None: all.
        segment: Steps per segment.
    """
    gap, _, _ = _centred(x, mask)
    real = _real(x, mask)
    framing = Framing(segment, segment // 2)
    flat = gap.reshape(-1, gap.shape[-1])
    power = per_frame(flat, framing, magnitude)  # [rows, n, segment // 2 + 1]
    count = frames(real.sum(dim=-1), segment, segment // 2).reshape(-1)
    within = torch.arange(power.shape[1], device=x.device) < count[:, None]
    power = (power * within[..., None]).sum(dim=1) / count.clamp_min(1)[:, None]
    # Each frequency but the first and the last also represents its negative.
    twice = torch.full_like(power[:1], 2.0)
    twice[:, 0] = 1.0
    if segment % 2 == 0:
        twice[:, -1] = 1.0
    power = power * twice / (segment * framing.taper(x).square().sum())
    return power.view(*gap.shape[:-1], power.shape[-1])


def autocorrelations(x: Tensor, mask: Tensor | None = None, lags: Sequence[int] = LAGS) -> Tensor:
    """Return the autocorrelation of ``x`` under ``mask`` at each of ``lags``: ``[..., len(lags)]``, -1 to 1."""
    gap, mean, count = _centred(x, mask)
    power = gap.square().sum(dim=-1)
    flat = power <= count * _noise(mean, x)
    scale = torch.where(flat, 1.0, power)
    # Where masked, the difference to the mean is zero: such pairs add nothing.
    products = [(gap[..., lag:] * gap[..., : max(gap.shape[-1] - lag, 0)]).sum(dim=-1) / scale for lag in lags]
    return torch.stack(products, dim=-1).masked_fill(flat[..., None], 0.0)


def correlations(data: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the correlation of each pair of channels of ``data`` ``[B, C, T]`` under ``mask`` ``[B, T]``: ``[B, C * (C
    - 1) / 2]``.
    """
    gap, mean, count = _centred(data, None if mask is None else mask[:, None])
    products = gap @ gap.transpose(1, 2)
    own = products.diagonal(dim1=1, dim2=2)
    flat = own <= count * _noise(mean, data)
    scale = torch.where(flat, 1.0, own).rsqrt().masked_fill(flat, 0.0)
    first, second = torch.triu_indices(data.shape[1], data.shape[1], 1, device=data.device)
    return (products * scale[:, :, None] * scale[:, None, :])[:, first, second].clamp(-1, 1)


def _real(x: Tensor, mask: Tensor | None) -> Tensor:
    return x.new_ones(x.shape, dtype=torch.bool) if mask is None else mask.expand(x.shape)


def _centred(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return differences to the mean (0 where masked), the mean, and the number of real steps (at least 1)."""
    real = _real(x, mask)
    count = real.sum(dim=-1).clamp_min(1).to(x.dtype)
    mean = x.masked_fill(~real, 0.0).sum(dim=-1) / count
    return (x - mean[..., None]).masked_fill(~real, 0.0), mean, count


def _noise(mean: Tensor, x: Tensor) -> Tensor:
    """Variance attributable to rounding alone."""
    return (mean.abs() * 4 * torch.finfo(x.dtype).eps).square() + torch.finfo(x.dtype).tiny

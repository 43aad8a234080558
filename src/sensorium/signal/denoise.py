"""Suppression of stationary noise, estimated from the quietest frames of each recording."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.signal.stft import Framing, istft, magnitude, stft

_SILENT = 1e-12  # energy relative to the loudest frame below which a frame is digital silence


def denoise(
    signal: Tensor,
    rate: int,
    lengths: Tensor | None = None,
    *,
    method: Literal["gate", "wiener"] = "wiener",
    strength: float = 1.0,
    quiet: float = 0.15,
    least: float = 0.05,
) -> Tensor:
    """Suppress the stationary noise of signals; lengths are kept, and padding is zero.

    Source: spectral gating as in Sainburg et al. 2020, https://doi.org/10.1371/journal.pcbi.1008228; Wiener gain, Lim and
    Oppenheim 1979, https://doi.org/10.1109/PROC.1979.11540.

    Args:
        signal: ``[B, T]`` float.
        rate: Sampling rate in Hz.
        lengths: Real samples of each row ``[B]``; None: all.
        method: ``wiener`` attenuates each frequency by its share of noise; ``gate`` mutes what does not exceed the noise.
        strength: Multiplies the noise estimate (``wiener``), or is the number of deviations above the mean noise level
            that a sound must exceed (``gate``).
        quiet: Share of frames, the quietest, taken to be noise only.
        least: Smallest gain; a little residual noise sounds better than gaps.
    """
    window = max(16, round(0.032 * rate))
    framing = Framing(window, max(4, window // 4), center=True)
    spectrum, mask = stft(signal, framing, lengths)
    power = magnitude(spectrum)
    still = quiet_frames(power.sum(dim=-1), mask, framing, signal.shape[1], lengths, quiet)[..., None]
    count = still.sum(dim=1, keepdim=True).clamp_min(1)
    if method == "wiener":
        noise = (power * still).sum(dim=1, keepdim=True) / count
        gain = 1 - strength * noise / _smooth(power, mask).clamp_min(torch.finfo(power.dtype).tiny)
    else:
        level = power.clamp_min(torch.finfo(power.dtype).tiny).log()
        mean = (level * still).sum(dim=1, keepdim=True) / count
        spread = ((level - mean).square() * still).sum(dim=1, keepdim=True).div(count).sqrt()
        gain = _smooth((level > mean + strength * spread).to(power.dtype), mask)
    # A row without real frames is left unchanged.
    gain = torch.where(still.any(dim=1, keepdim=True), gain.clamp(least, 1), 1.0)
    clean = istft(spectrum * gain, framing, signal.shape[1], mask)
    if lengths is None:
        return clean
    return clean.masked_fill(torch.arange(signal.shape[1], device=signal.device) >= lengths[:, None], 0.0)


def quiet_frames(
    energy: Tensor, mask: Tensor, framing: Framing, samples: int, lengths: Tensor | None, share: float
) -> Tensor:
    """Return a mask ``[B, frames]`` of the quietest frames of each row, taken to be noise only.

    Frames that extend over a row's ends and frames of digital silence are excluded.

    Args:
        energy: Energy of each frame ``[B, frames]``.
        mask: Real frames ``[B, frames]``.
        framing: How the frames were cut.
        samples: Samples per padded row.
        lengths: Real samples of each row ``[B]``; None: all.
        share: Share of frames to select.
    """
    place = torch.arange(energy.shape[1], device=energy.device) * framing.hop
    last = torch.full_like(mask[:, :1], samples, dtype=torch.long) if lengths is None else lengths[:, None]
    half = framing.window // 2
    inside = mask & (place >= half) & (place + half <= last)
    inside = torch.where(inside.any(dim=1, keepdim=True), inside, mask)
    peak = energy.masked_fill(~inside, 0.0).amax(dim=1, keepdim=True)
    heard = inside & (energy > _SILENT * peak)
    order = energy.masked_fill(~heard, torch.inf).sort(dim=1).values
    count = (heard.sum(dim=1, keepdim=True) * share).ceil().long()
    limit = order.gather(1, (count - 1).clamp_min(0))
    return heard & (energy <= limit)


def _smooth(cells: Tensor, mask: Tensor) -> Tensor:
    """Average each cell of ``[B, frames, F]`` with its real neighbours, 3 × 3."""
    valid = mask[..., None].to(cells.dtype).expand_as(cells)
    both = F.avg_pool2d(torch.stack([cells * valid, valid], dim=1), 3, stride=1, padding=1)
    return both[:, 0] / both[:, 1].clamp_min(1e-9)

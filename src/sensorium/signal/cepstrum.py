"""Decibels, the discrete cosine transform and mel-frequency cepstral coefficients."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from sensorium.core.errors import ConfigError
from sensorium.signal.mel import Scale, mel
from sensorium.signal.stft import Framed, Framing, masked


def decibels(energy: Tensor, mask: Tensor | None = None, *, floor: float = 1e-10, range_db: float | None = 80.0) -> Tensor:
    """Convert energies to decibels.

    Args:
        energy: ``[B, frames, F]``.
        mask: Real frames ``[B, frames]``, considered for the peak; None: all.
        floor: Smaller energies are raised to this.
        range_db: Levels more than this below a row's peak are raised to that limit; None: no limit.
    """
    if energy.requires_grad:
        level = 10.0 * energy.clamp_min(floor).log10()
    else:
        level = energy.clamp_min(floor).log10_().mul_(10.0)
    if range_db is None:
        return level
    real_levels = level if mask is None else level.masked_fill(~mask[..., None], -torch.inf)
    least = real_levels.amax(dim=(1, 2), keepdim=True) - range_db
    return torch.maximum(level, least) if energy.requires_grad else level.clamp_min_(least)


def dct(values: Tensor, count: int) -> Tensor:
    """Return the first ``count`` coefficients of the orthonormal DCT-II of ``values`` along the last axis."""
    if not 1 <= count <= values.shape[-1]:
        raise ConfigError(f"{values.shape[-1]} values have no {count} cosine coefficients", fix="ask for fewer")
    return values @ _cosines(values.shape[-1], count, values.dtype, values.device)


def mfcc(
    signal: Tensor,
    rate: int,
    framing: Framing,
    lengths: Tensor | None = None,
    *,
    count: int = 20,
    mels: int = 128,
    scale: Scale = "slaney",
    low: float = 0.0,
    high: float | None = None,
    area: bool = True,
    range_db: float | None = 80.0,
    lifter: float = 0.0,
) -> Framed:
    """Mel-frequency cepstral coefficients of signals: ``[B, frames, count]`` and the mask of real frames.

    With ``Framing(..., center=True)`` they equal librosa's, row by row. The peak for ``range_db`` is each row's own.
    Source: Davis and Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420.

    Args:
        signal: ``[B, T]`` float.
        rate: Sampling rate in Hz.
        framing: Window, hop and transform length.
        lengths: Real samples of each row ``[B]``; None: all.
        count: Number of coefficients.
        mels: Number of mel bands.
        scale: Formula of the mel scale.
        low: Lower edge of the first band in Hz.
        high: Upper edge of the last band in Hz; None: half of ``rate``.
        area: Whether filters are normalised to equal area.
        range_db: Levels further below a row's peak are raised to that limit; None: no limit.
        lifter: Weights coefficient i (from 1) by ``1 + lifter / 2 · sin(π i / lifter)``; 0: none.
    """
    energy, mask = mel(signal, rate, framing, lengths, mels=mels, scale=scale, low=low, high=high, area=area)
    # Padding has no energy and is never the peak, so no mask is needed here.
    cepstra = dct(decibels(energy, range_db=range_db), count)
    if lifter:
        place = torch.arange(1, count + 1, dtype=cepstra.dtype, device=cepstra.device)
        cepstra = cepstra * (1 + lifter / 2 * torch.sin(math.pi * place / lifter))
    return masked(cepstra, mask)


@lru_cache(maxsize=32)
def _cosines(size: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        place = torch.arange(size, dtype=torch.float64) + 0.5
        matrix = torch.cos(math.pi / size * place[:, None] * torch.arange(count, dtype=torch.float64)) * math.sqrt(2 / size)
        matrix[:, 0] *= math.sqrt(0.5)
        return matrix.to(device, dtype)

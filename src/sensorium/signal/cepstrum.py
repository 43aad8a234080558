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
    """Energies ``[B, frames, F]`` in dB, not below ``floor``, nor more than ``range_db`` below a row's peak."""
    if energy.requires_grad:
        level = 10.0 * energy.clamp_min(floor).log10()
    else:
        level = energy.clamp_min(floor).log10_().mul_(10.0)
    if range_db is None:
        return level
    seen = level if mask is None else level.masked_fill(~mask[..., None], -torch.inf)
    least = seen.amax(dim=(1, 2), keepdim=True) - range_db
    return torch.maximum(level, least) if energy.requires_grad else level.clamp_min_(least)


def dct(values: Tensor, count: int) -> Tensor:
    """The first ``count`` coefficients of the orthonormal cosine transform (type II) along the last axis."""
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
    """Mel-frequency cepstral coefficients of signals ``[B, T]``: ``[B, frames, count]`` and which frames are real.

    With ``Framing(..., center=True)`` they are those of librosa, row by row. The peak for ``range_db`` is each row's own.
    Source: Davis and Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420.

    Args:
        signal: ``[B, T]`` float.
        rate: Samples a second.
        framing: How frames are cut.
        lengths: Real samples of each row ``[B]``; None: all.
        count: Coefficients.
        mels: Bands of frequency.
        scale: The formula of the mel scale.
        low: Where the first band begins, in Hz.
        high: Where the last one ends; None: half of ``rate``.
        area: Whether each filter has the same area.
        range_db: What lies further below a row's peak is raised to that; None: nothing is.
        lifter: Weighs coefficient i (from 1) with ``1 + lifter / 2 · sin(π i / lifter)``; 0: not at all.
    """
    energy, mask = mel(signal, rate, framing, lengths, mels=mels, scale=scale, low=low, high=high, area=area)
    # Past their end rows have no energy: never a peak, so they need no mask here.
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

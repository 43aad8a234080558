"""Perceptual linear prediction (PLP) and RASTA-PLP cepstra."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sensorium.core.errors import ConfigError
from sensorium.signal.bark import band_centers, critical_bands, equal_loudness
from sensorium.signal.lpc import levinson, to_cepstrum
from sensorium.signal.rasta import rasta as filtered
from sensorium.signal.stft import Framed, Framing, magnitude, masked, per_frame, silenced


def plp(
    signal: Tensor,
    rate: int,
    framing: Framing,
    lengths: Tensor | None = None,
    *,
    count: int = 13,
    order: int | None = None,
    rasta: bool = False,
    pole: float = 0.98,
    floor: float = 1e-8,
) -> Framed:
    """Perceptual linear prediction cepstra of signals: ``[B, frames, count]`` and the mask of real frames.

    The power spectrum is summed into critical bands, weighted by equal loudness, compressed (power 0.33) and fitted with an
    all-pole model, whose cepstrum is returned. The paper uses 20 ms Hamming windows.
    Source: Hermansky 1990, https://doi.org/10.1121/1.399423; RASTA-PLP, Hermansky and Morgan 1994,
    https://doi.org/10.1109/89.326616.

    Args:
        signal: ``[B, T]`` float.
        rate: Sampling rate in Hz.
        framing: Window, hop and transform length.
        lengths: Real samples of each row ``[B]``; None: all.
        count: Number of coefficients, the first of which is the log gain.
        order: Poles of the model; None: ``count - 1``.
        rasta: Whether the log energies of the bands are first RASTA-filtered along time.
        pole: Pole of the RASTA filter; the closer to 1, the slower the changes that pass.
        floor: Added to the energy of each band; sets the value of silence.
    """
    poles = order if order is not None else max(count - 1, 1)
    centers = len(band_centers(rate))
    if not 1 <= count <= 512 or not 1 <= poles < centers:
        raise ConfigError(
            f"plp: {poles} poles from {centers} critical bands at {rate} Hz", fix="fewer coefficients or poles"
        )
    bank = _bank(rate, framing.size, signal.dtype, signal.device)
    mask = framing.mask(signal, lengths)
    bands = per_frame(silenced(signal, lengths), framing, lambda spectrum: magnitude(spectrum) @ bank) + floor
    if rasta:
        bands = filtered(bands.log(), pole).exp()
    predictor, error = levinson(autocorrelation(loudness(bands, rate), poles + 1), poles)
    # Padding is silent; without this its logarithm would not be finite.
    error = torch.where(mask, error, 1.0).clamp_min(torch.finfo(error.dtype).tiny)
    cepstra = to_cepstrum(predictor, error, count).to(signal.dtype)
    return masked(cepstra, mask)


def loudness(bands: Tensor, rate: int) -> Tensor:
    """Perceived loudness of critical-band energies ``bands`` ``[..., bands]`` at a sampling ``rate`` (equations 6 and 8).

    Bands are weighted by equal loudness, the outermost two replaced by their neighbours, and raised to the power 0.33.
    """
    heard = bands * _loudness(rate, bands.dtype, bands.device)
    inner = heard[..., 1:-1]
    return torch.cat([inner[..., :1], inner, inner[..., -1:]], dim=-1).pow(0.33)


def autocorrelation(spectrum: Tensor, count: int) -> Tensor:
    """Return the first ``count`` autocorrelations ``[..., count]`` of a power ``spectrum`` ``[..., N]`` from 0 to half the
    rate.

    Computed in double precision where the device has it: the model that follows is close to singular for pure tones.
    """
    wide = spectrum if spectrum.device.type == "mps" else spectrum.double()
    return wide @ _inverse(spectrum.shape[-1], count, wide.dtype, wide.device)


@lru_cache(maxsize=16)
def _bank(rate: int, fft: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(critical_bands(rate, fft).T.copy()).to(device, dtype)


@lru_cache(maxsize=16)
def _loudness(rate: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(equal_loudness(band_centers(rate), rate)).to(device, dtype)


@lru_cache(maxsize=16)
def _inverse(size: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Inverse Fourier transform of a real symmetric spectrum, as a matrix ``[size, count]``."""
    with torch.inference_mode(False):
        angle = math.pi / (size - 1) * np.outer(np.arange(size), np.arange(count))
        matrix = np.cos(angle) / (size - 1)
        matrix[[0, -1]] /= 2  # the ends occur once in the symmetric spectrum, all others twice
        return torch.from_numpy(matrix).to(device, dtype)

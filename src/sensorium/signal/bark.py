"""The Bark scale, critical bands and equal-loudness weights (Hermansky 1990, https://doi.org/10.1121/1.399423)."""

from __future__ import annotations

import math

import numpy as np

from sensorium.core.modality import Array

_BEND = 5000.0  # Hz; above it, the equal-loudness curve needs a further term


def hz_to_bark(hz: Array) -> Array:
    """Convert frequencies ``hz`` to the Bark scale: ``6 ln(x + sqrt(x² + 1))``, ``x = ω / 1200π`` (equation 3)."""
    return np.asarray(6.0 * np.arcsinh(np.asarray(hz, dtype=np.float64) / 600.0))


def bark_to_hz(bark: Array) -> Array:
    """Convert ``bark`` values to frequencies in Hz."""
    return np.asarray(600.0 * np.sinh(np.asarray(bark, dtype=np.float64) / 6.0))


def masking(distance: Array) -> Array:
    """Critical-band curve: the weight of a frequency at a ``distance`` in Bark from the centre of a band (equation 4)."""
    z = np.asarray(distance, dtype=np.float64)
    rise, fall = 10.0 ** (2.5 * (z.clip(-1.3, 0) + 0.5)), 10.0 ** (0.5 - z.clip(0, 2.5))
    inside = np.where(z <= -0.5, rise, np.where(z < 0.5, 1.0, fall))
    return np.where((z < -1.3) | (z > 2.5), 0.0, inside)


def band_centers(rate: int) -> Array:
    """Return the centres of the critical bands in Hz: 0 to half of ``rate``, in equal steps of just below one Bark."""
    top = float(hz_to_bark(np.asarray(rate / 2)))
    return bark_to_hz(np.linspace(0.0, top, math.ceil(top) + 1))


def critical_bands(rate: int, fft: int) -> Array:
    """Weights ``[bands, fft // 2 + 1]`` float64 that sum a power spectrum into critical bands (equation 5).

    ``rate`` is the sampling rate in Hz, ``fft`` the length of the Fourier transform.
    """
    bins = hz_to_bark(np.arange(fft // 2 + 1) * (rate / fft))
    return masking(bins - hz_to_bark(band_centers(rate))[:, None])


def equal_loudness(hz: Array, rate: int) -> Array:
    """Equal-loudness weights of power at frequencies ``hz``, at about 40 dB (equation 7).

    At a sampling ``rate`` above 10 kHz the paper's additional term is included, scaled to be 1 at 0 Hz rather than 10⁻²⁷:
    this shifts the first cepstral coefficient by a constant and stays within the range of float32.
    """
    square = (2 * np.pi * np.asarray(hz, dtype=np.float64)) ** 2
    loud = (square + 56.8e6) * square**2 / ((square + 6.3e6) ** 2 * (square + 0.38e9))
    return np.asarray(loud / (1.0 + square**3 / 9.58e26) if rate / 2 > _BEND else loud)

"""Mel scales, filterbanks, mel and log-mel spectrograms."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from sensorium.core.modality import Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sensorium.signal.stft import Framed, Framing

Scale = Literal["slaney", "htk"]

# Slaney's Auditory Toolbox (1998): linear below 1 kHz, logarithmic above.
_LINEAR = 200 / 3
_BREAK = 1000.0
_STEP = math.log(6.4) / 27


def hz_to_mel(hz: Array, scale: Scale = "slaney") -> Array:
    """Convert frequencies ``hz`` to the mel ``scale``."""
    hz = np.asarray(hz, dtype=np.float64)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    above = _BREAK / _LINEAR + np.log(np.maximum(hz, _BREAK) / _BREAK) / _STEP
    return np.where(hz < _BREAK, hz / _LINEAR, above)


def mel_to_hz(mel: Array, scale: Scale = "slaney") -> Array:
    """Convert ``mel`` values of a ``scale`` to frequencies in Hz."""
    mel = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    corner = _BREAK / _LINEAR
    return np.where(mel < corner, mel * _LINEAR, _BREAK * np.exp(_STEP * (np.maximum(mel, corner) - corner)))


def filterbank(
    rate: int,
    fft: int,
    mels: int,
    scale: Scale = "slaney",
    *,
    low: float = 0.0,
    high: float | None = None,
    area: bool = True,
) -> Array:
    """Triangular filters ``[mels, fft // 2 + 1]`` float64, evenly spaced on the mel scale from ``low`` to ``high`` Hz.

    Args:
        rate: Sampling rate in Hz.
        fft: Length of the Fourier transform.
        mels: Number of filters.
        scale: Formula of the mel scale.
        low: Lower edge of the first filter in Hz.
        high: Upper edge of the last filter in Hz; None: half of ``rate``.
        area: Whether filters have equal area (else equal height, 1).
    """
    ends = hz_to_mel(np.array([low, rate / 2 if high is None else high]), scale)
    edges = mel_to_hz(np.linspace(ends[0], ends[1], mels + 2), scale)
    bins = np.arange(fft // 2 + 1) * (rate / fft)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0.0, np.minimum(rise, fall))
    return np.asarray(filters * (2.0 / (edges[2:] - edges[:-2]))[:, None] if area else filters)


def fft_size(rate: int, window: int, mels: int) -> int:
    """Return the smallest power of two ≥ ``window`` for which each of ``mels`` filters at ``rate`` Hz contains a bin."""
    size = 1 << max(window - 1, 1).bit_length()
    while size < 2**15 and not filterbank(rate, size, mels).any(axis=1).all():
        size *= 2
    return size


def mel(
    signal: Tensor,
    rate: int,
    framing: Framing,
    lengths: Tensor | None = None,
    *,
    mels: int = 128,
    scale: Scale = "slaney",
    low: float = 0.0,
    high: float | None = None,
    area: bool = True,
    power: float = 2.0,
) -> Framed:
    """Mel spectrograms of signals: ``[B, frames, mels]`` and the mask of real frames.

    With ``Framing(..., center=True)`` they equal librosa's. ``mels``, ``scale``, ``low``, ``high`` and ``area`` are as in
    ``filterbank``.

    Args:
        signal: ``[B, T]`` float.
        rate: Sampling rate in Hz.
        framing: Window, hop and transform length.
        lengths: Real samples of each row ``[B]``; None: all.
        power: Exponent of the magnitudes; 2: energies.
    """
    from sensorium.signal.stft import magnitude, masked, per_frame, silenced

    bank = _filters(rate, framing.size, mels, signal.device, scale, low, high, area, signal.dtype)
    mask = framing.mask(signal, lengths)
    data = per_frame(silenced(signal, lengths), framing, lambda spectrum: magnitude(spectrum, power) @ bank)
    return masked(data, mask)


def log_mel(signal: Tensor, rate: int, window: int, hop: int, mels: int, floor: float = 1e-6) -> Tensor:
    """Log-mel spectrogram (natural logarithm) of signals: ``[B, frames, mels]``.

    Args:
        signal: ``[B, T]`` in ±1, zero past the end of each row.
        rate: Sampling rate in Hz.
        window: Samples per frame.
        hop: Samples from one frame to the next.
        mels: Number of mel bands.
        floor: Added to the energy of each band; sets the value of silence.
    """
    from sensorium.signal.stft import Framing, magnitude, per_frame

    size = fft_size_of(rate, window, mels)
    bank = _filters(rate, size, mels, signal.device, dtype=signal.dtype)
    energy = per_frame(signal, Framing(window, hop, size), lambda spectrum: magnitude(spectrum) @ bank)
    return energy.add_(floor).log_() if not energy.requires_grad else (energy + floor).log()


def log_mel_of(signal: Array, rate: int, window: int, hop: int, mels: int, floor: float = 1e-6) -> Array:
    """Compute ``log_mel`` of one ``signal`` ``[T]`` without torch: ``[frames, mels]`` float32.

    ``rate``, ``window``, ``hop``, ``mels`` and ``floor`` are as in ``log_mel``.
    """
    size = fft_size_of(rate, window, mels)
    count = max(-(-(len(signal) - window) // hop), 0) + 1 if len(signal) else 0
    padded = np.zeros((max(count, 1) - 1) * hop + size, np.float32)
    padded[: len(signal)] = signal[: len(padded)]
    framed = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:count, :window]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi / window * np.arange(window))
    spectrum = np.fft.rfft(framed * hann, size)
    energy = (spectrum.real**2 + spectrum.imag**2) @ filterbank(rate, size, mels).T
    return np.asarray(np.log(energy + floor), dtype=np.float32)


fft_size_of = lru_cache(maxsize=32)(fft_size)


@lru_cache(maxsize=16)
def _filters(
    rate: int,
    fft: int,
    mels: int,
    device: torch.device,
    scale: Scale = "slaney",
    low: float = 0.0,
    high: float | None = None,
    area: bool = True,
    dtype: torch.dtype | None = None,
) -> Tensor:
    import torch

    with torch.inference_mode(False):  # a tensor made in inference mode cannot take part in autograd
        bank = filterbank(rate, fft, mels, scale, low=low, high=high, area=area)
        return torch.from_numpy(bank.T.copy()).to(device, dtype or torch.float32)

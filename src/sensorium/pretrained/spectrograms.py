"""Spectrograms as computed for the training of pretrained audio networks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.modality import Array
from sensorium.signal.mel import filterbank

RATE = 16_000
WINDOW, HOP = 400, 160  # samples: 25 ms every 10 ms
_FLOOR = 1.192092955078125e-07  # epsilon of float32, as in Kaldi


def whisper_mel(signal: Tensor, mels: int, samples: int) -> Tensor:
    """Log-mel spectrogram ``[B, mels, samples // 160]`` as for Whisper.

    Clamped to 80 dB below the loudest cell of the row.
    Source: Robust Speech Recognition via Large-Scale Weak Supervision, https://arxiv.org/abs/2212.04356, § 2.2.

    Args:
        signal: ``[B, T]`` at 16 kHz, zero past the end of each row.
        mels: Number of mel bands.
        samples: Length to which signals are cut or padded.
    """
    signal = F.pad(signal[:, :samples], (0, max(0, samples - signal.shape[1])))
    window = torch.hann_window(WINDOW, device=signal.device)
    spectrum = torch.stft(signal, WINDOW, HOP, window=window, return_complex=True)[..., :-1]
    with torch.autocast(signal.device.type, enabled=False):  # energies exceed the range of half precision
        energy = _slaney(mels, signal.device) @ (spectrum.real.square() + spectrum.imag.square())
    levels = energy.clamp(min=1e-10).log10()
    scaled: Tensor = (levels.maximum(levels.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
    return scaled


def kaldi_frames(length: Tensor) -> Tensor:
    """Return the number of whole windows in ``length`` samples, at least one."""
    return torch.div(length.clamp(min=WINDOW) - WINDOW, HOP, rounding_mode="floor") + 1


def kaldi_fbank(signal: Tensor, mels: int) -> Tensor:
    """Log filterbank energies ``[B, frames, mels]`` of ``signal`` ``[B, T]`` at 16 kHz, equal to Kaldi's ``fbank``.

    Each 25 ms window is centred to mean 0, pre-emphasised by 0.97 and weighted by a Hann window; ``mels`` bands cover 20 Hz
    to 8 kHz. Source: https://kaldi-asr.org/doc/feat.html, and § 2 of https://arxiv.org/abs/2104.01778.
    """
    signal = F.pad(signal, (0, max(0, WINDOW - signal.shape[1])))
    framed = signal.unfold(1, WINDOW, HOP)
    framed = framed - framed.mean(dim=-1, keepdim=True)
    before = torch.cat([framed[..., :1], framed[..., :-1]], dim=-1)
    framed = (framed - 0.97 * before) * torch.hann_window(WINDOW, periodic=False, device=signal.device)
    spectrum: Tensor = torch.fft.rfft(framed, 512)
    with torch.autocast(signal.device.type, enabled=False):
        energy: Tensor = (spectrum.real.square() + spectrum.imag.square()) @ _kaldi(mels, signal.device)
    return energy.clamp(min=_FLOOR).log()


@lru_cache(maxsize=4)
def _slaney(mels: int, device: torch.device) -> Tensor:
    return torch.from_numpy(filterbank(RATE, WINDOW, mels).astype(np.float32)).to(device)


@lru_cache(maxsize=4)
def _kaldi(mels: int, device: torch.device) -> Tensor:
    """Filters ``[257, mels]`` that are triangular on the mel scale rather than in Hz."""

    def mel(hz: Array) -> Array:
        return np.asarray(1127.0 * np.log1p(hz / 700.0))

    low, high = mel(np.array([20.0, RATE / 2]))
    edges = np.linspace(low, high, mels + 2)
    bins = mel(np.arange(257) * (RATE / 512))[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)).to(device)

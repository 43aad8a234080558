"""Acoustic front ends: spectral and cepstral features of audio under one interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sensorium.core.errors import ConfigError
from sensorium.signal.bark import band_centers
from sensorium.signal.cepstrum import dct
from sensorium.signal.delta import with_deltas
from sensorium.signal.mel import fft_size_of, log_mel, mel
from sensorium.signal.plp import plp
from sensorium.signal.stft import Framed, Framing, frames, magnitude, per_frame

Features = Literal["logmel", "mel", "stft", "mfcc", "plp", "rasta_plp", "waveform"]
CEPSTRA = ("mfcc", "plp", "rasta_plp")
FLOOR = 1e-6  # energy of silence, before a logarithm


@dataclass(frozen=True)
class FrontEnd:
    """Audio feature extractor: what an audio stream computes before features are standardised.

    Args:
        features: Kind of feature.
        rate: Sampling rate in Hz.
        window: Samples per frame.
        hop: Samples from one frame to the next.
        mels: Number of mel bands.
        count: Number of cepstral coefficients.
        deltas: Number of time derivatives, each an additional channel.
    """

    features: Features
    rate: int
    window: int
    hop: int
    mels: int
    count: int
    deltas: int = 0

    @property
    def size(self) -> int:
        """Number of features per frame, in each of the ``1 + deltas`` channels."""
        if self.features == "stft":
            return self.framing.size // 2 + 1
        return self.count if self.features in CEPSTRA else self.mels

    @property
    def framing(self) -> Framing:
        """Framing of the spectrum that the features are computed from."""
        if self.features in ("logmel", "mel", "mfcc"):
            return Framing(self.window, self.hop, fft_size_of(self.rate, self.window, self.mels))
        size = 1 << max(self.window - 1, 1).bit_length()
        return Framing(self.window, self.hop, size, shape="hann" if self.features == "stft" else "hamming")

    def __call__(self, signal: Tensor, lengths: Tensor) -> Framed:
        """Return the features ``[B, 1 + deltas, frames, size]`` of signals ``[B, T]``, zero past ``lengths`` ``[B]``,
        and their mask.
        """
        count = frames(lengths, self.window, self.hop)
        data = self._static(signal, lengths)
        mask = torch.arange(data.shape[1], device=data.device) < count[:, None]
        return Framed(with_deltas(data, mask, self.deltas) if self.deltas else data[:, None], mask)

    def _static(self, signal: Tensor, lengths: Tensor) -> Tensor:
        match self.features:
            case "logmel":
                return log_mel(signal, self.rate, self.window, self.hop, self.mels, FLOOR)
            case "mel":
                return mel(signal, self.rate, self.framing, mels=self.mels, power=1.0).data
            case "stft":
                return per_frame(signal, self.framing, lambda spectrum: (magnitude(spectrum) + FLOOR).log())
            case "mfcc":
                return dct(log_mel(signal, self.rate, self.window, self.hop, self.mels, FLOOR), self.count)
            case "plp" | "rasta_plp":
                rasta = self.features == "rasta_plp"
                return plp(signal, self.rate, self.framing, lengths, count=self.count, rasta=rasta).data
            case _:
                raise ConfigError(f"{self.features} has no frames")


def most_coefficients(features: Features, rate: int, mels: int) -> int:
    """Return the largest possible number of cepstral coefficients for ``features``, the sampling ``rate`` and ``mels``
    bands.
    """
    return mels if features == "mfcc" else len(band_centers(rate))

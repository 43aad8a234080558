"""Signals from magnitudes have the same spectrogram."""

from __future__ import annotations

import math

import torch

from sensorium.signal.griffin_lim import from_mel, griffin_lim
from sensorium.signal.mel import log_mel
from sensorium.signal.stft import Framing, stft

RATE, FRAMING = 8000, Framing(256, 64)


def chirp() -> torch.Tensor:
    time = torch.arange(4096) / RATE
    return (0.5 * torch.sin(2 * math.pi * (300 + 800 * time) * time))[None]


def test_the_signal_has_the_requested_magnitudes() -> None:
    wanted = stft(chirp(), FRAMING).data.abs()
    signal = griffin_lim(wanted, FRAMING, 4096)
    error = (stft(signal, FRAMING).data.abs() - wanted).norm() / wanted.norm()
    once = (stft(griffin_lim(wanted, FRAMING, 4096, rounds=0), FRAMING).data.abs() - wanted).norm() / wanted.norm()
    assert float(error) < 0.1 < float(once)
    assert torch.equal(signal, griffin_lim(wanted, FRAMING, 4096))


def test_a_signal_from_mel_bands_has_similar_mel_bands() -> None:
    bands = log_mel(chirp(), RATE, 256, 64, 40)
    signal = from_mel(bands.exp(), RATE, FRAMING, 4096)
    loud = bands > bands.max() - 4
    assert float((log_mel(signal, RATE, 256, 64, 40) - bands)[loud].abs().mean()) < 0.7

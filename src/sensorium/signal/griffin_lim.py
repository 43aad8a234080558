"""Reconstruction of a signal from spectrogram magnitudes (Griffin-Lim)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sensorium.signal.mel import filterbank
from sensorium.signal.stft import Framing, istft, stft

ROUNDS = 40
"""Iterations after which the signal hardly changes."""
MOMENTUM = 0.99


def griffin_lim(magnitude: Tensor, framing: Framing, length: int, *, rounds: int = ROUNDS, seed: int = 0) -> Tensor:
    """Signals ``[B, length]`` whose spectrogram has about the ``magnitude`` ``[B, frames, size // 2 + 1]``.

    Phases start at random and are made consistent by going back and forth.

    Source: Griffin and Lim 1984, https://doi.org/10.1109/TASSP.1984.1164317, with the momentum of Perraudin et al. 2013,
    https://doi.org/10.1109/WASPAA.2013.6701851.

    Args:
        magnitude: Magnitudes, not energies.
        framing: How the frames lie.
        length: Samples to return.
        rounds: Number of iterations.
        seed: Seed of the initial phases; the same seed gives the same signal.
    """
    draw = torch.Generator().manual_seed(seed)
    angle = torch.rand(magnitude.shape, generator=draw).to(magnitude) * 2 * math.pi
    spectrum = torch.polar(magnitude, angle)
    before = torch.zeros_like(spectrum)
    for _ in range(rounds):
        consistent = stft(istft(spectrum, framing, length), framing).data[:, : magnitude.shape[1]]
        ahead = consistent + MOMENTUM * (consistent - before)
        before = consistent
        spectrum = magnitude * ahead / ahead.abs().clamp_min(1e-12)
    return istft(spectrum, framing, length)


def from_mel(energy: Tensor, rate: int, framing: Framing, length: int, *, seed: int = 0) -> Tensor:
    """Signals ``[B, length]`` with about the mel ``energy`` ``[B, frames, mels]``.

    Each band's energy is shared among its frequencies by the pseudo-inverse of the filterbank, negative shares set to 0.

    Args:
        energy: Energies in mel bands (``signal.mel.log_mel`` without the logarithm).
        rate: Sampling rate in Hz.
        framing: How the frames lie.
        length: Samples to return.
        seed: Seed of the initial phases.
    """
    bank = torch.from_numpy(filterbank(rate, framing.size, energy.shape[2])).to(energy)
    spread = (energy @ torch.linalg.pinv(bank).T).clamp_min(0)
    return griffin_lim(spread.sqrt(), framing, length, seed=seed)

"""Recordings at another rate, speed, duration or pitch, and with noise of a known strength."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sensorium.core.errors import ConfigError
from sensorium.core.modality import Array
from sensorium.signal.stft import Framing, istft, silenced, stft


def resample(signal: Array, rate: float, to: float) -> Array:
    """A signal ``[T]`` or ``[T, channels]`` at another rate, float32, by the SoX resampler."""
    import soxr

    if not (rate > 0 and to > 0):
        raise ConfigError(f"a signal at {rate} Hz cannot be resampled to {to} Hz", fix="rates are above 0")
    return np.asarray(soxr.resample(np.asarray(signal, dtype=np.float32), rate, to), dtype=np.float32)


def speed(signal: Array, factor: float) -> Array:
    """A signal ``[T]`` played ``factor`` times as fast: shorter, and higher by as much."""
    return resample(signal, factor, 1.0)


def pitch(signal: Tensor, semitones: float) -> Tensor:
    """Signals ``[B, T]`` higher by so many ``semitones`` (lower where negative), as long as before."""
    factor = 2.0 ** (semitones / 12)
    long = stretch(signal, 1 / factor)
    rows = np.stack([speed(row, factor) for row in long.cpu().numpy()])
    out = torch.zeros_like(signal)
    count = min(rows.shape[1], signal.shape[1])
    out[:, :count] = torch.from_numpy(rows[:, :count])
    return out


def stretch(signal: Tensor, factor: float, *, window: int = 2048, hop: int = 512) -> Tensor:
    """Signals ``[B, T]`` played ``factor`` times as fast at the same pitch: ``[B, round(T / factor)]``.

    Source: the phase vocoder, Flanagan and Golden 1966, https://doi.org/10.1002/j.1538-7305.1966.tb01706.x.
    """
    framing = Framing(window, hop, center=True)
    return istft(vocode(stft(signal, framing).data, factor, hop, window), framing, round(signal.shape[1] / factor))


def vocode(spectrum: Tensor, factor: float, hop: int, size: int) -> Tensor:
    """Spectra ``[B, frames, F]`` read ``factor`` times as fast, phases going on as each frequency would."""
    if not factor > 0:
        raise ConfigError(f"a speed of {factor} is not above 0")
    count, bins = spectrum.shape[1:]
    at = torch.arange(0, count, factor, device=spectrum.device, dtype=torch.float64)
    index, share = at.long(), (at % 1)[:, None].to(spectrum.real.dtype)
    wide = torch.nn.functional.pad(spectrum, (0, 0, 0, 2))
    left, right = wide[:, index], wide[:, index + 1]
    size_of = (1 - share) * left.abs() + share * right.abs()
    turn = 2 * math.pi
    usual = torch.arange(bins, device=spectrum.device, dtype=torch.float64) * (turn * hop / size)
    change = right.angle().double() - left.angle().double() - usual
    step = usual + change - turn * (change / turn).round()
    phase = spectrum[:, :1].angle().double() + torch.cat([torch.zeros_like(step[:, :1]), step.cumsum(dim=1)[:, :-1]], dim=1)
    return torch.polar(size_of, (phase % turn).to(size_of.dtype))


def faster(signal: Tensor, factor: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Signals ``[B, T]``, each played ``factor`` ``[B]`` times as fast, and their new lengths: on the device, by straight
    lines between samples, which is enough to vary training data by some percent. What gets longer than ``T`` is cut."""
    count = signal.shape[1]
    signal = silenced(signal, lengths)
    length = (lengths / factor).ceil().long().clamp_max(count) * (lengths > 0)
    at = torch.arange(count, device=signal.device) * factor[:, None]
    index = at.long().clamp_max(count - 1)
    share = (at - index).clamp(0, 1)
    after = signal.gather(1, (index + 1).clamp_max(count - 1))
    return silenced(torch.lerp(signal.gather(1, index), after, share.to(signal.dtype)), length), length


def mix(signal: Tensor, noise: Tensor, snr_db: Tensor | float, lengths: Tensor | None = None) -> Tensor:
    """Signals ``[B, T]`` with ``noise`` ``[B, T]`` added, scaled to be ``snr_db`` (``[B]`` or one number) weaker in power.

    Powers are those of each row's real samples. A silent row, or silent noise, leaves the signal as it is.
    """
    signal, noise = silenced(signal, lengths), silenced(noise, lengths)
    ratio = torch.as_tensor(snr_db, dtype=signal.dtype, device=signal.device).reshape(-1, 1)
    have, power = signal.square().sum(dim=1, keepdim=True), noise.square().sum(dim=1, keepdim=True)
    scale = (have / power.clamp_min(torch.finfo(signal.dtype).tiny)).sqrt() * 10 ** (-ratio / 20)
    return signal + noise * scale.masked_fill(power <= 0, 0.0)

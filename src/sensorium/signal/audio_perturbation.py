"""Resampling, speed, time-stretching and pitch changes of audio, and mixing in noise at a given SNR."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sensorium.core.errors import ConfigError
from sensorium.core.modality import Array
from sensorium.signal.stft import Framing, istft, silenced, stft


def resample(signal: Array, rate: float, to: float) -> Array:
    """Resample a signal ``[T]`` or ``[T, channels]`` to another sampling rate with the SoX resampler; float32.

    Args:
        signal: The samples.
        rate: Sampling rate of ``signal``.
        to: The new sampling rate, in the same unit.
    """
    import soxr

    if not (rate > 0 and to > 0):
        raise ConfigError(f"a signal at {rate} Hz cannot be resampled to {to} Hz", fix="rates are above 0")
    return np.asarray(soxr.resample(np.asarray(signal, dtype=np.float32), rate, to), dtype=np.float32)


def speed(signal: Array, factor: float) -> Array:
    """Play a ``signal`` ``[T]`` at ``factor`` times its speed: a factor above 1 shortens it and raises its pitch."""
    return resample(signal, factor, 1.0)


def pitch(signal: Tensor, semitones: float) -> Tensor:
    """Shift the pitch of each ``signal`` ``[B, T]`` by ``semitones`` (negative: down); the length is kept."""
    factor = 2.0 ** (semitones / 12)
    long = stretch(signal, 1 / factor)
    rows = np.stack([speed(row, factor) for row in long.cpu().numpy()])
    out = torch.zeros_like(signal)
    count = min(rows.shape[1], signal.shape[1])
    out[:, :count] = torch.from_numpy(rows[:, :count])
    return out


def stretch(signal: Tensor, factor: float, *, window: int = 2048, hop: int = 512) -> Tensor:
    """Change the speed of signals by ``factor`` at constant pitch: ``[B, round(T / factor)]``.

    Source: the phase vocoder, Flanagan and Golden 1966, https://doi.org/10.1002/j.1538-7305.1966.tb01706.x.

    Args:
        signal: ``[B, T]`` float.
        factor: Above 1: faster, shorter.
        window: Samples per frame.
        hop: Samples from one frame to the next.
    """
    framing = Framing(window, hop, center=True)
    return istft(vocode(stft(signal, framing).data, factor, hop, window), framing, round(signal.shape[1] / factor))


def vocode(spectrum: Tensor, factor: float, hop: int, size: int) -> Tensor:
    """Phase vocoder: resample spectra along time and continue the phase of each frequency.

    Args:
        spectrum: Complex ``[B, frames, F]``.
        factor: The speed, above 0; else ``ConfigError``.
        hop: Samples between frames.
        size: Length of the Fourier transform.
    """
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
    """Play each row at its own speed, with linear interpolation on the device; return signals and new lengths.

    Linear interpolation is accurate enough to vary training data by a few per cent. Rows that grow beyond ``T`` are cut.

    Args:
        signal: ``[B, T]``.
        factor: Speed of each row ``[B]``.
        lengths: Real samples of each row ``[B]``.
    """
    count = signal.shape[1]
    signal = silenced(signal, lengths)
    length = (lengths / factor).ceil().long().clamp_max(count) * (lengths > 0)
    at = torch.arange(count, device=signal.device) * factor[:, None]
    index = at.long().clamp_max(count - 1)
    share = (at - index).clamp(0, 1)
    after = signal.gather(1, (index + 1).clamp_max(count - 1))
    return silenced(torch.lerp(signal.gather(1, index), after, share.to(signal.dtype)), length), length


def mix(signal: Tensor, noise: Tensor, snr_db: Tensor | float, lengths: Tensor | None = None) -> Tensor:
    """Add ``noise`` to signals at a given signal-to-noise ratio.

    Powers are measured over the real samples of each row. A silent row, or silent noise, leaves the signal unchanged.

    Args:
        signal: ``[B, T]``.
        noise: ``[B, T]``, scaled to the requested power.
        snr_db: Signal-to-noise ratio in dB, a number or ``[B]``.
        lengths: Real samples of each row ``[B]``; None: all.
    """
    signal, noise = silenced(signal, lengths), silenced(noise, lengths)
    ratio = torch.as_tensor(snr_db, dtype=signal.dtype, device=signal.device).reshape(-1, 1)
    have, power = signal.square().sum(dim=1, keepdim=True), noise.square().sum(dim=1, keepdim=True)
    scale = (have / power.clamp_min(torch.finfo(signal.dtype).tiny)).sqrt() * 10 ** (-ratio / 20)
    return signal + noise * scale.masked_fill(power <= 0, 0.0)


def babble(signal: Tensor, lengths: Tensor, voices: int, generator: torch.Generator) -> Tensor:
    """Return noise for each row ``[B, T]``: recordings of other rows and white noise, all equally loud.

    Rows without samples are no voices; with fewer other rows than ``voices`` there are fewer of them.

    Args:
        signal: ``[B, T]``.
        lengths: Real samples of each row ``[B]``. Shorter recordings are repeated.
        voices: Number of other rows in the noise of a row.
        generator: Source of random numbers.
    """
    noise = torch.randn(signal.shape, generator=generator, device=generator.device).to(signal)
    if voices == 0:
        return noise
    order = torch.randperm(len(signal), generator=generator, device=generator.device).to(lengths.device)
    order = order[lengths[order] > 0]
    count = len(order)
    if count < 2:
        return noise
    at = torch.arange(signal.shape[1], device=signal.device)
    start = torch.rand(len(signal), generator=generator, device=generator.device).to(signal)
    for step in range(1, min(voices, count - 1) + 1):
        other = order.roll(step)
        own = lengths[other, None]
        first = (start[order, None] * own).long()
        voice = signal[other].gather(1, (at + first) % own)
        power = voice.square().mean(dim=1, keepdim=True).clamp_min(torch.finfo(signal.dtype).tiny)
        noise = noise.index_add(0, order, voice / power.sqrt())
    return noise

"""Spectrograms of batches of signals that differ in length."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

Length = TypeVar("Length", int, Tensor)


def frames(length: Length, window: int, hop: int) -> Length:
    """How many windows, ``hop`` apart, it takes to cover ``length`` samples; none for no samples."""
    if isinstance(length, int):
        return 0 if length <= 0 else max(-(-(length - window) // hop), 0) + 1
    steps = torch.div(length - window + hop - 1, hop, rounding_mode="floor").clamp_min(0) + 1
    return steps * (length > 0)


def spectrogram(signal: Tensor, window: int, hop: int, fft: int | None = None, power: float = 2.0) -> Tensor:
    """Magnitudes to the ``power`` of the short-time Fourier transform: ``[B, T]`` to ``[B, frames, fft // 2 + 1]``.

    Frame i starts at sample ``i * hop`` and sees ``window`` samples under a Hann window; past the end are zeros,
    nothing is reflected. So a row followed by zeros has the same frames as the row alone.

    Args:
        signal: ``[B, T]`` float, zero past the end of each row.
        window: Samples in a frame.
        hop: Samples from one frame to the next.
        fft: Length of the transform, ``window`` or more; None: ``window``.
        power: 1 for magnitudes, 2 for energies.
    """
    size = window if fft is None else fft
    count = frames(signal.shape[1], window, hop)
    # Frames are cut as long as the transform, under a window with a tail of zeros: no copy to pad them.
    padded = F.pad(signal, (0, max((count - 1) * hop + size - signal.shape[1], 0)))
    framed = padded.unfold(1, size, hop)[:, :count] * F.pad(hann(window, signal.device), (0, size - window))
    spectrum = torch.fft.rfft(framed)
    energy = spectrum.real.square() + spectrum.imag.square()  # three times as fast as abs().square()
    out: Tensor = energy if power == 2 else energy.sqrt() if power == 1 else energy.pow(power / 2)
    return out


@lru_cache(maxsize=16)
def hann(window: int, device: torch.device) -> Tensor:
    """The periodic Hann window, ``[window]``."""
    return torch.hann_window(window, periodic=True, dtype=torch.float64).float().to(device)

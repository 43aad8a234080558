"""Short-time Fourier transforms of padded batches of signals, and their inverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.errors import ConfigError

Length = TypeVar("Length", int, Tensor)
Shape = Literal["hann", "hamming", "ones"]
_BLOCK = 2**18  # windowed samples per block on a CPU: blocks that fit the cache are several times faster


class Framed(NamedTuple):
    """Features of a padded batch: ``data`` ``[B, frames, F]``, zero where padded, and ``mask`` ``[B, frames]`` of real
    frames.
    """

    data: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Framing:
    """How signals are cut into frames.

    Args:
        window: Samples per frame.
        hop: Samples from one frame to the next.
        fft: Length of the transform, ``window`` or more; None: ``window``.
        center: Whether frame i is centred on sample ``i * hop``, with zeros before the first sample, as librosa does by
            default. Otherwise frame i starts there, and the last frame ends at or after the last sample.
        shape: Shape of the periodic window.
    """

    window: int
    hop: int
    fft: int | None = None
    center: bool = False
    shape: Shape = "hann"

    def __post_init__(self) -> None:
        if self.window < 1 or self.hop < 1 or self.size < self.window:
            raise ConfigError("frames need window ≥ 1, hop ≥ 1 and fft ≥ window")

    @property
    def size(self) -> int:
        """Length of the transform."""
        return self.window if self.fft is None else self.fft

    def count(self, length: Length) -> Length:
        """Return the number of frames of a signal of ``length`` samples."""
        if not self.center:
            return frames(length, self.window, self.hop)
        if isinstance(length, int):
            return 1 + length // self.hop if length > 0 else 0
        return (torch.div(length, self.hop, rounding_mode="floor") + 1) * (length > 0)

    def mask(self, signal: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the mask ``[B, frames]`` of real frames of ``signal`` ``[B, T]``, whose rows have ``lengths`` ``[B]``
        (None: all).
        """
        total = max(self.count(signal.shape[1]), 1)
        if lengths is None:
            lengths = torch.full((signal.shape[0],), signal.shape[1], device=signal.device)
        return torch.arange(total, device=signal.device) < self.count(lengths)[:, None]

    def taper(self, like: Tensor) -> Tensor:
        """Return the window, zero-padded to the transform length (on both sides if centred), with type and device of
        ``like``.
        """
        return _taper(self.shape, self.window, self.size, self.center, like.dtype, like.device)

    def cut(self, signal: Tensor) -> Tensor:
        """Cut ``signal`` ``[B, T]`` into overlapping frames ``[B, frames, size]`` before windowing: a view, not a copy."""
        count = max(self.count(signal.shape[1]), 1)
        left = self.size // 2 if self.center else 0
        padded = F.pad(signal, (left, max((count - 1) * self.hop + self.size - signal.shape[1] - left, 0)))
        return padded.unfold(1, self.size, self.hop)[:, :count]


def frames(length: Length, window: int, hop: int) -> Length:
    """Return the number of windows of ``window`` samples, ``hop`` apart, that cover ``length`` samples; 0 for none."""
    if isinstance(length, int):
        return 0 if length <= 0 else max(-(-(length - window) // hop), 0) + 1
    steps = torch.div(length - window + hop - 1, hop, rounding_mode="floor").clamp_min(0) + 1
    return steps * (length > 0)


def silenced(signal: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero ``signal`` ``[B, T]`` past the ``lengths`` ``[B]`` of its rows (None: unchanged)."""
    if lengths is None or (lengths.device.type == "cpu" and bool((lengths >= signal.shape[1]).all())):
        return signal
    return signal.masked_fill(torch.arange(signal.shape[1], device=signal.device) >= lengths[:, None], 0.0)


def masked(data: Tensor, mask: Tensor) -> Framed:
    """Zero features ``data`` ``[B, frames, F]`` outside ``mask`` ``[B, frames]``; in place unless gradients are needed."""
    if data.requires_grad:
        return Framed(data.masked_fill(~mask[..., None], 0.0), mask)
    if data.device.type != "cpu":
        return Framed(data.masked_fill_(~mask[..., None], 0.0), mask)
    if not bool(mask.all()):  # on a CPU this check is cheaper than a pass over all features
        data[~mask] = 0.0
    return Framed(data, mask)


def stft(signal: Tensor, framing: Framing, lengths: Tensor | None = None) -> Framed:
    """Complex short-time Fourier transform: ``[B, frames, size // 2 + 1]`` and the mask of real frames.

    Args:
        signal: ``[B, T]``.
        framing: Window, hop and transform length.
        lengths: Real samples of each row ``[B]``; None: all.
    """
    mask = framing.mask(signal, lengths)
    return masked(per_frame(silenced(signal, lengths), framing, lambda spectrum: spectrum), mask)


def istft(spectrum: Tensor, framing: Framing, length: int, mask: Tensor | None = None) -> Tensor:
    """Invert a short-time Fourier transform in the least-squares sense: signals ``[B, length]``.

    Source: Griffin and Lim 1984, https://doi.org/10.1109/TASSP.1984.1164317, equation 6.

    Args:
        spectrum: Complex ``[B, frames, size // 2 + 1]``.
        framing: How the frames were cut.
        length: Samples to return.
        mask: Frames to use ``[B, frames]``; None: all. Samples that no frame covers are zero.
    """
    taper = framing.taper(spectrum.real)
    pieces = torch.fft.irfft(spectrum, framing.size) * taper
    left = framing.size // 2 if framing.center else 0
    total = max((pieces.shape[1] - 1) * framing.hop + framing.size, left + length)
    weight = taper.square().expand_as(pieces[:1])
    if mask is not None:
        pieces, weight = pieces * mask[..., None], weight * mask[..., None]
    summed, covered = (_overlap(part, framing.hop, total)[:, left : left + length] for part in (pieces, weight))
    return summed / covered.clamp_min(1e-8)


def spectrogram(signal: Tensor, window: int, hop: int, fft: int | None = None, power: float = 2.0) -> Tensor:
    """Spectrogram: magnitudes of the short-time Fourier transform to a ``power``, ``[B, frames, fft // 2 + 1]``.

    Frame i starts at sample ``i * hop`` and covers ``window`` samples under a Hann window; the end is zero-padded, not
    reflected, so padding does not change a row's frames.

    Args:
        signal: ``[B, T]`` float, zero past the end of each row.
        window: Samples per frame.
        hop: Samples from one frame to the next.
        fft: Length of the transform, ``window`` or more; None: ``window``.
        power: 1 for magnitudes, 2 for energies.
    """
    return per_frame(signal, Framing(window, hop, fft), lambda spectrum: magnitude(spectrum, power))


def magnitude(spectrum: Tensor, power: float = 2.0) -> Tensor:
    """Return the magnitudes of a complex ``spectrum``, raised to ``power``."""
    energy = spectrum.real.square() + spectrum.imag.square()  # three times faster than abs().square()
    if power == 2:
        return energy
    if energy.requires_grad:
        energy = energy.clamp_min(torch.finfo(energy.dtype).tiny)  # the gradient of a root is infinite at zero
    return energy.sqrt() if power == 1 else energy.pow(power / 2)


def per_frame(signal: Tensor, framing: Framing, then: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to the spectra of signals: ``[B, frames, ...]``.

    On a CPU this runs block by block, so the full spectrum is never in memory, unless gradients are needed.

    Args:
        signal: ``[B, T]``.
        framing: How frames are cut.
        then: Function of complex spectra ``[b, n, size // 2 + 1]``, applied to each block of frames.
    """
    framed, taper = framing.cut(signal), framing.taper(signal)
    rows, count = framed.shape[:2]
    step = max(_BLOCK // framing.size, 1)  # frames at a time
    if signal.requires_grad or signal.device.type != "cpu" or rows * count <= step or rows == 0:
        return then(torch.fft.rfft(framed * taper))
    out: Tensor | None = None
    down, along = max(step // count, 1), min(step, count)
    for row in range(0, rows, down):
        for at in range(0, count, along):
            part = then(torch.fft.rfft(framed[row : row + down, at : at + along] * taper))
            if out is None:
                out = part.new_empty((rows, count, *part.shape[2:]))
            out[row : row + down, at : at + along] = part
    assert out is not None
    return out


def hann(window: int, device: torch.device) -> Tensor:
    """Return the periodic Hann window of ``window`` samples on ``device``."""
    return _taper("hann", window, window, False, torch.float32, device)


@lru_cache(maxsize=64)
def _taper(shape: Shape, window: int, size: int, center: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a tensor made in inference mode cannot take part in autograd
        made = {"hann": torch.hann_window, "hamming": torch.hamming_window}
        taper = made[shape](window, dtype=torch.float64) if shape in made else torch.ones(window, dtype=torch.float64)
        left = (size - window) // 2 if center else 0
        return F.pad(taper, (left, size - window - left)).to(device, dtype)


def _overlap(pieces: Tensor, hop: int, total: int) -> Tensor:
    """Overlap-add ``pieces`` ``[B, n, size]`` with a distance of ``hop``: ``[B, total]``."""
    rows, count, size = pieces.shape
    overlapped = F.fold(pieces.transpose(1, 2), (1, (count - 1) * hop + size), (1, size), stride=(1, hop))
    return F.pad(overlapped.reshape(rows, -1), (0, total - overlapped.shape[-1]))

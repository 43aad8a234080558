"""Voice activity detection, by energy or by a likelihood ratio test, and trimming of silence."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.modality import Array
from sensorium.signal.denoise import quiet_frames
from sensorium.signal.stft import Framing, magnitude, per_frame, silenced


def loud(
    signal: Tensor, lengths: Tensor | None = None, *, window: int = 2048, hop: int = 512, below_db: float = 60.0
) -> Tensor:
    """Return which frames ``[B, frames]`` are within ``below_db`` of the loudest frame of their row.

    Frame i is centred on ``i * hop``. Same as ``librosa.effects.trim``, except that no frame of an all-zero row is loud.

    Args:
        signal: ``[B, T]``.
        lengths: Real samples of each row ``[B]``; None: all.
        window: Samples per frame.
        hop: Samples from one frame to the next.
        below_db: Threshold below the peak in dB.
    """
    framing = Framing(window, hop, center=True)
    mask = framing.mask(signal, lengths)
    need = (mask.shape[1] - 1) * hop + window - signal.shape[1] - window // 2
    square = F.pad(silenced(signal, lengths).square(), (window // 2, max(need, 0)))
    power = F.avg_pool1d(square[:, None], window, hop)[:, 0, : mask.shape[1]]
    level = 10 * power.clamp_min(1e-10).log10()
    peak = level.masked_fill(~mask, -torch.inf).amax(dim=1, keepdim=True)
    return mask & (level > peak - below_db) & (peak > -100)


def voiced(
    signal: Tensor,
    lengths: Tensor | None = None,
    *,
    window: int = 512,
    hop: int = 128,
    threshold: float = 0.6,
    quiet: float = 0.15,
    hang: int = 4,
) -> Tensor:
    """Return which frames ``[B, frames]`` differ from the background noise of their row; frame i is centred on ``i *
    hop``.

    Averages a likelihood ratio test over frequencies, so it also detects sounds softer than the noise if their spectrum
    differs. Source: Sohn, Kim and Sung 1999, https://doi.org/10.1109/97.736233, equation 4 with the maximum likelihood
    estimate; a plain hang-over in place of their Markov chain.

    Args:
        signal: ``[B, T]`` float.
        lengths: Real samples of each row ``[B]``; None: all.
        window: Samples per frame.
        hop: Samples from one frame to the next.
        threshold: Mean log likelihood ratio above which a frame is active; noise alone has about 0.15 to 0.4.
        quiet: Share of frames, the quietest, from which the noise is estimated.
        hang: The number of frames before and after an active frame that also count as active.
    """
    framing = Framing(window, hop, center=True)
    mask = framing.mask(signal, lengths)
    power = per_frame(silenced(signal, lengths), framing, magnitude)
    still = quiet_frames(power.sum(dim=-1), mask, framing, signal.shape[1], lengths, quiet)[..., None]
    noise = (power * still).sum(dim=1, keepdim=True) / still.sum(dim=1, keepdim=True).clamp_min(1)
    ratio = (power / noise.clamp_min(torch.finfo(power.dtype).tiny)).clamp(1.0, 1e6)
    score = (ratio - ratio.log() - 1).mean(dim=-1)
    active = (score > threshold) & mask & noise.sum(dim=-1).gt(0)
    return F.max_pool1d(active.float()[:, None], 2 * hang + 1, 1, hang)[:, 0].bool() & mask


def stretches(active: Tensor, hop: int) -> list[list[tuple[int, int]]]:
    """Return the active stretches of each row as (start, end) in samples; divide by the sampling rate for seconds.

    Args:
        active: Active frames ``[B, frames]``.
        hop: Samples from one frame to the next.
    """
    edge = F.pad(active.to(torch.int8), (1, 1)).diff(dim=1)
    runs: list[list[tuple[int, int]]] = []
    for row in edge.cpu():
        starts, ends = (row == 1).nonzero()[:, 0] * hop, (row == -1).nonzero()[:, 0] * hop
        runs.append(list(zip(starts.tolist(), ends.tolist(), strict=True)))
    return runs


def trimmed(signal: Array, rate: int, below_db: float) -> tuple[Array, int]:
    """Cut the silent ends off a signal; return the rest and the sample at which it begins.

    Energy is measured over 50 ms. A signal that is silent throughout is returned whole.

    Args:
        signal: ``[T]``.
        rate: Sampling rate in Hz.
        below_db: Silence is this far below the loudest frame, in dB.
    """
    alone = torch.from_numpy(np.ascontiguousarray(signal, dtype=np.float32))[None]
    hop = max(1, round(0.0125 * rate))
    cut, length, start = trim(alone, loud(alone, window=4 * hop, hop=hop, below_db=below_db), hop)
    return (np.asarray(cut[0]), int(start)) if int(length) else (signal, 0)


def trim(signal: Tensor, active: Tensor, hop: int, lengths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Cut signals to the span from their first to their last active frame: ``[B, T']``, lengths ``[B]`` and starts
    ``[B]``.

    A row without an active frame becomes empty.

    Args:
        signal: ``[B, T]``.
        active: Active frames ``[B, frames]``.
        hop: Samples from one frame to the next.
        lengths: Real samples of each row ``[B]``; None: all.
    """
    rows, count = signal.shape
    full = torch.full((rows,), count, device=signal.device) if lengths is None else lengths
    place = torch.arange(active.shape[1], device=signal.device)
    first = torch.where(active, place, active.shape[1]).amin(dim=1) * hop
    last = (torch.where(active, place, -1).amax(dim=1) + 1) * hop
    start = torch.minimum(first, full)
    length = (torch.minimum(last, full) - start).clamp_min(0)
    step = torch.arange(max(int(length.max()), 1) if rows else 1, device=signal.device)
    out = signal.gather(1, (start[:, None] + step).clamp_max(count - 1))
    return out.masked_fill(step >= length[:, None], 0.0), length, start

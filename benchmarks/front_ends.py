"""Speed of the audio front ends, compared with librosa (STFT, mel, MFCC) and spafe (PLP), on one recording and on a batch.

Both use the same settings and run alternately in one process on one core. Ratios are speeds: the time of the reference
over ours. The reference processes the recordings of a batch one after the other, as its users do. Notes give the seconds
of sound processed per second.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Cost, Results, Settings, Skipped, compared, cost, interleaved
from sensorium.signal.cepstrum import mfcc
from sensorium.signal.mel import mel
from sensorium.signal.plp import plp
from sensorium.signal.stft import Framing, stft

RATE, WINDOW, HOP, FFT, MELS = 16000, 400, 160, 512, 80


def run(settings: Settings) -> Results:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import librosa
            from spafe.features.rplp import plp as spafe_plp
            from spafe.utils.preprocessing import SlidingWindow
    except ImportError as error:
        return [Skipped("front ends", f"{error.name} is not installed")]
    seconds = settings.few(4, 1)
    rows = settings.few(16, 2)
    rng = np.random.default_rng(0)
    time = np.arange(seconds * RATE) / RATE
    signals = np.stack([0.3 * np.sin(2 * np.pi * (200 + 50 * i) * time * (1 + 0.1 * time)) for i in range(rows)])
    signals = (signals + rng.normal(0, 0.02, signals.shape)).astype(np.float32)
    batch, lengths = torch.from_numpy(signals), torch.full((rows,), signals.shape[1])
    frame = {"n_fft": FFT, "win_length": WINDOW, "hop_length": HOP}
    centred = Framing(WINDOW, HOP, FFT, center=True)
    spoken = Framing(WINDOW, HOP, FFT, shape="hamming")
    short = SlidingWindow(WINDOW / RATE, HOP / RATE, "hamming")
    kinds: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], Any]]] = {
        "stft": (lambda x, n: stft(x, centred, n), lambda y: librosa.stft(y, **frame)),
        "mel": (
            lambda x, n: mel(x, RATE, centred, n, mels=MELS),
            lambda y: librosa.feature.melspectrogram(y=y, sr=RATE, n_mels=MELS, **frame),
        ),
        "mfcc": (
            lambda x, n: mfcc(x, RATE, centred, n, count=20, mels=MELS),
            lambda y: librosa.feature.mfcc(y=y, sr=RATE, n_mfcc=20, n_mels=MELS, **frame),
        ),
        # Twenty bands: as many as ours has up to 8 kHz. The reference gets its filters, since those cost it most.
        "plp": (lambda x, n: plp(x, RATE, spoken, n, count=13), _spafe(spafe_plp, short)),
    }
    results: Results = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, (ours, theirs) in kinds.items():
            for size, least in ((1, 1.0), (rows, 3.0)):
                results.append(_beside(name, ours, theirs, batch[:size], lengths[:size], seconds, least, settings))
    finally:
        torch.set_num_threads(threads)
    return results


def _beside(
    name: str,
    ours: Callable[[Any, Any], Any],
    theirs: Callable[[Any], Any],
    batch: torch.Tensor,
    lengths: torch.Tensor,
    seconds: float,
    least: float,
    settings: Settings,
) -> Any:
    """Compare one front end with its reference on one batch."""
    size = len(batch)
    again = settings.few(max(1, 8 // size), 1)  # a single recording takes less than the resolution of the clock
    alone = list(batch.numpy())

    def mine() -> Cost:
        return cost(lambda: [ours(batch, lengths) for _ in range(again)])

    def reference() -> Cost:
        return cost(lambda: [theirs(signal) for _ in range(again) for signal in alone])

    mine(), reference()  # tables are made once, libraries loaded
    first, second = interleaved(mine, reference, settings.few(7, 1))
    sound = seconds * size * again
    ours_ms, theirs_ms = ([c.cpu / sound * 1000 for c in costs] for costs in (first, second))
    what = "one recording" if least == 1 else f"batch of {size}"
    speed = f"real time × {1000 / float(np.median(ours_ms)):,.0f}, reference × {1000 / float(np.median(theirs_ms)):,.0f}"
    return compared(f"{name}, {what}", "ms / s of sound", ours_ms, theirs_ms, inverse=True, at_least=least, note=speed)


def _spafe(function: Callable[..., Any], window: Any) -> Callable[[Any], Any]:
    from spafe.fbanks.bark_fbanks import bark_filter_banks

    bands = bark_filter_banks(nfilts=20, nfft=FFT, fs=RATE)[0]
    return lambda y: function(y, fs=RATE, order=13, nfilts=20, nfft=FFT, window=window, fbanks=bands)

"""Sound."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.film import container, read_track
from sensorium.signal.sound import read_sound, to_unit
from sensorium.signal.statistics import Moments, thinned

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sensorium.core.batch import Field

_ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aiff", ".aif", ".au")
_MAGIC = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b".snd")
_SAMPLE = 256
_FASTEST = 16_000  # Hz; where the data decides, nothing above is kept
_LONGEST = 10.0  # seconds; likewise


@component
class Audio(Modality):
    """A recording: WAV, FLAC, OGG or MP3, the sound track of a video, or an array ``[T]`` or ``[T, channels]``.

    Arrays count as sampled at the rate of the others.

    Encoded as ``[T]`` int16, one channel, resampled to one rate; prepared as ``[B, 1, frames, mels]`` (log-mel, standard
    scores) or ``[B, 1, T]``, with the mask of real frames. What is padded is zero, and real frames are what they are alone.
    Longer recordings are cut to their beginning.

    Args:
        rate: Samples a second; None: the usual one of the training files, at most 16000 Hz.
        seconds: The longest recording; None: as long as 95 of 100 training files, at most 10 seconds.
        features: ``logmel`` is a picture of frequencies over time, ``waveform`` the samples themselves.
        mels: Bands of frequency; None: 40 up to 8000 Hz, 64 above.
        window_ms: Milliseconds in one frame.
        hop_ms: Milliseconds from one frame to the next.
        standardise: Whether features become standard scores of the training recordings; False: left as they are.
        augment: In training, random shifts in time and loudness, and masks over time and frequency (SpecAugment,
            https://arxiv.org/abs/1904.08779).
    """

    widget = "file:audio/*"
    media = True
    ragged = True
    corruptions = ("noise", "dropout")

    def __init__(
        self,
        *,
        rate: int | None = None,
        seconds: float | None = None,
        features: Literal["logmel", "waveform"] = "logmel",
        mels: int | None = None,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        standardise: bool = True,
        augment: Literal["none", "light", "strong"] = "light",
    ) -> None:
        super().__init__()
        if rate is not None and not 1000 <= rate <= 192_000:
            raise ConfigError(f"audio: a rate of {rate} Hz is not between 1000 and 192000")
        if seconds is not None and not 0.01 <= seconds <= 1800:
            raise ConfigError(f"audio: {seconds} seconds are not between 0.01 and 1800")
        if not 1 <= hop_ms <= window_ms <= 1000 or (mels is not None and not 1 <= mels <= 512):
            raise ConfigError("audio: 1 ≤ hop_ms ≤ window_ms ≤ 1000, and mels from 1 to 512")
        self.rate, self.seconds, self.features = rate, seconds, features
        self.mels, self.window_ms, self.hop_ms, self.augment = mels, window_ms, hop_ms, augment
        self.standardise = standardise

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        found = Counter(ending for ending in map(_ending, cells) if ending)
        if not found:
            return Guess(0.0, "no cell is a recording")
        count = found.total()
        if set(found) == {"array"}:
            return Guess(0.6 * count / len(cells), f"{count} of {len(cells)} cells are arrays of 16-bit samples")
        kinds = " or ".join(kind for kind, _ in found.most_common(3))
        verb = "are" if "bytes" in kinds else "end in"
        return Guess(0.98 * count / len(cells), f"{count} of {len(cells)} cells {verb} {kinds}")

    def fit(self, cells: Iterable[Any]) -> None:
        rates: Counter[int] = Counter()
        durations: list[float] = []  # of files, in seconds
        counts: list[int] = []  # of arrays, in samples of a rate not yet known
        cut = self.seconds or _LONGEST

        def opened() -> Iterable[tuple[Array, int]]:
            for cell in cells:
                try:
                    signal, rate, duration = _open(cell, cut)
                except CellError:
                    continue  # encode meets it again and reports it
                if rate:
                    rates[rate] += 1
                    durations.append(duration)
                else:
                    counts.append(len(signal))
                # Compact, since a sample of it is kept until the rate is known.
                yield _to_int16(signal), rate

        sample = thinned(opened(), _SAMPLE)
        usual = max(rates, key=lambda rate: (rates[rate], rate)) if rates else _FASTEST
        rate = self.rate or min(usual, _FASTEST)
        durations += [count / rate for count in counts]
        longest = float(np.percentile(durations, 95)) if durations else 1.0
        seconds = self.seconds or min(max(longest, 0.1), _LONGEST)
        self.state = {
            "rate": rate,
            "length": max(1, math.ceil(seconds * rate)),
            "mels": self.mels or (40 if rate <= 8000 else 64),
        }
        self.state |= self._moments(sample)

    def _moments(self, sample: list[tuple[Array, int]]) -> dict[str, list[float]]:
        from sensorium.signal.mel import log_mel_of

        bands = self.state["mels"]
        if not self.standardise:
            return {"mean": [0.0], "deviation": [1.0]}
        moments = Moments(bands if self.features == "logmel" else 1)
        for signal, rate in sample:
            signal = self._resampled(signal.astype(np.float32) / 32768, rate or self.state["rate"])
            if self.features == "logmel":
                moments.add(log_mel_of(signal, self.state["rate"], *self._window, bands))
            else:
                moments.add(signal[:, None])
        return {"mean": moments.mean, "deviation": moments.deviation(1e-4)}

    @property
    def layout(self) -> Layout:
        length = self.state["length"]
        if self.features == "waveform":
            return Grid(1, (length,))
        from sensorium.signal.stft import frames

        window, hop = self._window
        return Grid(1, (frames(length, window, hop), self.state["mels"]))

    def encode(self, cell: Any) -> Array:
        rate = self.state["rate"]
        # A little more than is kept, so that the resampler's edge falls outside.
        signal, found, _ = _open(cell, self.state["length"] / rate + 0.05)
        return _to_int16(self._resampled(signal, found or rate))

    def blank(self) -> Array:
        return np.zeros(0, dtype=np.int16)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Samples ``[B, T]`` int16 as standardised features and the mask of their real frames."""
        import torch

        from sensorium.signal.augment import hide_bands, uniform
        from sensorium.signal.stft import frames

        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape)
        signal = field.data.float() / 32768
        augmented = generator is not None and self.augment != "none"
        strong = self.augment == "strong"
        if generator is not None and augmented:
            signal = _shift(signal, mask, round(self.state["rate"] * (0.1 if strong else 0.04)), generator)
            gain = uniform((signal.shape[0], 1), -0.7 if strong else -0.35, 0.7 if strong else 0.35, signal, generator)
            signal = signal * gain.exp()
        data = self._features(signal)
        if self.features == "logmel":
            window, hop = self._window
            count = frames(mask.sum(dim=1), window, hop)
            mask = torch.arange(data.shape[1], device=data.device) < count[:, None]
        mean = torch.tensor(self.state["mean"], device=data.device)
        deviation = torch.tensor(self.state["deviation"], device=data.device)
        if self.features == "waveform":
            return replace(field, data=((data - mean) / deviation * mask)[:, None], mask=mask)
        data = (data - mean) / deviation
        if generator is not None and augmented:
            data = hide_bands(data, mask, generator, times=2 if strong else 1)
        return replace(field, data=(data * mask[..., None])[:, None], mask=mask)

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        from sensorium.signal.corrupt import gap, noisy_sound

        return noisy_sound(value, level, rng) if how == "noise" else np.where(gap(len(value), level, rng), 0, value)

    @property
    def store_options(self) -> dict[str, Any]:
        return {"rate": self.state["rate"], "length": self.state["length"]}

    @property
    def _window(self) -> tuple[int, int]:
        rate = self.state["rate"]
        return max(2, round(rate * self.window_ms / 1000)), max(1, round(rate * self.hop_ms / 1000))

    def _features(self, signal: Tensor) -> Tensor:
        """Signals ``[B, T]`` as ``[B, frames, mels]``, or as they are."""
        if self.features == "waveform":
            return signal
        from sensorium.signal.mel import log_mel

        return log_mel(signal, self.state["rate"], *self._window, self.state["mels"])

    def _resampled(self, signal: Array, rate: int) -> Array:
        if rate != self.state["rate"]:
            import soxr

            signal = np.asarray(soxr.resample(signal, rate, self.state["rate"]), dtype=np.float32)
            if not len(signal):
                raise CellError("the recording is too short to be resampled")
        return signal[: self.state["length"]]


def _open(cell: Any, seconds: float) -> tuple[Array, int, float]:
    """The beginning of a recording ``[T]`` float32, its rate (0: that of the others) and its length in seconds."""
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        return read_track(cell, seconds) if container(cell.data) else read_sound(cell, seconds)
    try:
        array = np.asarray(cell)
    except (ValueError, TypeError):
        raise CellError(f"a {type(cell).__name__} is not a recording") from None
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2) or array.size == 0:
        raise CellError(
            f"an array of shape {array.shape} and type {array.dtype} is not a recording", fix="use [T] or [T, channels]"
        )
    if array.ndim == 2:
        kind = array.dtype
        array = array.mean(axis=int(array.shape[0] > array.shape[1]), dtype=np.float64)
        array = array.astype(kind) if kind.kind in "iu" else array
    return to_unit(array), 0, 0.0


def _to_int16(signal: Array) -> Array:
    return (signal * 32768).round().clip(-32768, 32767).astype(np.int16)


def _shift(signal: Tensor, mask: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each row ``[B, T]`` moved by up to ``most`` samples either way, zeros coming in; nothing moves past its end."""
    import torch

    rows, length = signal.shape
    by = torch.randint(-most, most + 1, (rows, 1), generator=generator, device=generator.device).to(signal.device)
    padded = torch.nn.functional.pad(signal, (most, most))
    index = torch.arange(length, device=signal.device) + (most + by)
    return padded.gather(1, index) * mask


def _ending(cell: Any) -> str:
    """What a cell is recognised by as sound: its ending, its kind of bytes, or ``array``."""
    if isinstance(cell, (str, os.PathLike)):
        ending = os.path.splitext(str(cell)[-300:].strip().lower())[1]
        return ending if ending in _ENDINGS else ""
    data = cell.data if isinstance(cell, Blob) else cell
    if isinstance(data, bytes):
        known = data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WAVE")
        return "the bytes of recordings" if known else ""
    return "array" if str(getattr(cell, "dtype", "")) == "int16" and getattr(cell, "ndim", 0) == 1 else ""

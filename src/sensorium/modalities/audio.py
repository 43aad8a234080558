"""Audio recordings."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.audio import MINUTES, Sound, read_sound, sound_from_array, sound_length
from sensorium.codecs.video import container, read_track, video_size
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.running_moments import Moments, subsampled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sensorium.core.batch import Field
    from sensorium.signal.front_ends import FrontEnd

_ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aiff", ".aif", ".au")
_MAGIC = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b".snd")
_SAMPLE, _FASTEST = 256, 16_000  # cells; Hz, the highest rate that is chosen automatically
_LONGEST = 10.0  # seconds; the longest length that is chosen automatically
_FILM_RATE = 48_000  # Hz; assumed for the sound of a video when its size is estimated
_WHOLE = 60.0 * MINUTES
_CEPSTRA = ("mfcc", "plp", "rasta_plp")


@component
class Audio(Modality):
    """An audio recording: WAV, FLAC, OGG or MP3, a video's sound track, or an array ``[T]`` or ``[T, channels]``.

    Encoded as ``[T]`` int16: one channel, resampled to one rate (arrays are taken to have that of the other recordings),
    long recordings cut at the end. Prepared as standardised features ``[B, C, frames, F]`` or, for ``waveform``,
    ``[B, 1, T]``, with the mask of real frames. Padding is zero and does not affect real frames.

    Args:
        rate: Sampling rate in Hz; None: the most frequent rate of the training files, at most 16000 Hz.
        seconds: Maximum length; None: the 95th percentile of the training files, at most 10 seconds.
        features: ``logmel``: log-mel spectrogram; ``mel``: mel magnitudes without logarithm; ``stft``: log spectrogram of
            all frequencies; ``mfcc``, ``plp`` and ``rasta_plp``: compact cepstral coefficients (``rasta_plp`` is robust to
            changes of microphone); ``waveform``: the samples.
        mels: Bands of ``logmel``, ``mel`` and ``mfcc``; None: 40 at rates up to 8000 Hz, 64 above.
        coefficients: Coefficients of ``mfcc``, ``plp`` and ``rasta_plp``; None: 13, or as many as the rate allows.
        deltas: Time derivatives added as further channels: 0, 1 (first) or 2 (first and second).
        denoise: Noise suppression: ``wiener`` attenuates stationary noise, ``gate`` mutes what does not exceed it.
        trim_db: Cuts off both ends where they are this many dB below the loudest moment; None: no trimming.
        window_ms: Frame length in milliseconds.
        hop_ms: Milliseconds from one frame to the next.
        standardise: Whether features are standardised with the mean and deviation of the training recordings.
        augment: In training, random shifts in time and loudness, and SpecAugment (https://arxiv.org/abs/1904.08779).
        speed: In training, the speed changes at random by up to this share (0.1: 10 %).
        snr_db: In training, noise is added with an SNR of at least this many dB; None: none.
        voices: Number of other recordings in that noise, each as loud as the white noise in it.
    """

    widget = "file:audio/*"
    media = True
    ragged = True
    bounds = {"seconds": MINUTES * 60, "samples": float("inf")}
    corruptions = ("noise", "dropout")

    def __init__(
        self,
        *,
        rate: int | None = None,
        seconds: float | None = None,
        features: Literal["logmel", "mel", "stft", "mfcc", "plp", "rasta_plp", "waveform"] = "logmel",
        mels: int | None = None,
        coefficients: int | None = None,
        deltas: int = 0,
        denoise: Literal["none", "gate", "wiener"] = "none",
        trim_db: float | None = None,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        standardise: bool = True,
        # av_digits 0.872 against 0.811 without, av_hard 0.908 against 0.853 (docs/results.md, "Augmentation").
        augment: Literal["none", "light", "strong"] = "light",
        speed: float = 0.0,
        snr_db: float | None = None,
        voices: int = 0,
    ) -> None:
        super().__init__()
        if rate is not None and not 1000 <= rate <= 192_000:
            raise ConfigError(f"audio: a rate of {rate} Hz is not between 1000 and 192000")
        if seconds is not None and not 0.01 <= seconds <= 1800:
            raise ConfigError(f"audio: {seconds} seconds are not between 0.01 and 1800")
        if not 1 <= hop_ms <= window_ms <= 1000 or (mels is not None and not 1 <= mels <= 512):
            raise ConfigError("audio: 1 ≤ hop_ms ≤ window_ms ≤ 1000, and mels from 1 to 512")
        if coefficients is not None and (features not in _CEPSTRA or not 1 <= coefficients <= 512):
            raise ConfigError("audio: coefficients, 1 or more, go with features mfcc, plp or rasta_plp")
        if not 0 <= deltas <= 2 or (deltas and features == "waveform"):
            raise ConfigError("audio: deltas are 0, 1 or 2, and a waveform has none")
        if trim_db is not None and not 1 <= trim_db <= 100:
            raise ConfigError(f"audio: trim_db of {trim_db} is not between 1 and 100")
        if not 0 <= speed <= 0.5:
            raise ConfigError(f"audio: a speed that changes by {speed} is not between 0 and 0.5")
        if (snr_db is not None and not -20 <= snr_db <= 100) or not 0 <= voices <= (16 if snr_db is not None else 0):
            raise ConfigError("audio: snr_db is from -20 to 100; voices, 16 or fewer, go with it")
        self.rate, self.seconds, self.features = rate, seconds, features
        self.coefficients, self.deltas, self.denoise, self.trim_db = coefficients, deltas, denoise, trim_db
        self.speed, self.snr_db, self.voices = speed, snr_db, voices
        self.mels, self.window_ms, self.hop_ms, self.augment = mels, window_ms, hop_ms, augment
        self.standardise = standardise

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        endings = Counter(ending for ending in map(_ending, cells) if ending)
        if not endings:
            return Guess(0.0, "no cell is a recording")
        count = endings.total()
        if set(endings) == {"array"}:
            return Guess(0.6 * count / len(cells), f"{count} of {len(cells)} cells are arrays of 16-bit samples")
        kinds = " or ".join(kind for kind, _ in endings.most_common(3))
        verb = "are" if "bytes" in kinds else "end in"
        return Guess(0.98 * count / len(cells), f"{count} of {len(cells)} cells {verb} {kinds}")

    def fit(self, cells: Iterable[Any]) -> None:
        rates: Counter[int] = Counter()
        durations: list[float] = []  # of files, in seconds
        opposed: list[bool] = []
        counts: list[int] = []  # of arrays, in samples of a rate not yet known
        cut = self.seconds or _LONGEST

        def opened() -> Iterable[tuple[Array, int]]:
            for cell in cells:
                try:
                    signal, rate, duration, turned = _open(cell, cut if self.trim_db is None else _WHOLE)
                except CellError:
                    continue  # reported by encode
                opposed.append(turned)
                if self.trim_db is not None:
                    signal, _ = _trimmed(signal, rate or _FASTEST, self.trim_db)
                    duration = len(signal) / rate if rate else 0.0
                    signal = signal[: math.ceil(cut * (rate or _FASTEST))]
                if rate:
                    rates[rate] += 1
                    durations.append(duration)
                else:
                    counts.append(len(signal))
                # As int16, to save memory: a sample is kept until the rate is known.
                yield _to_int16(signal), rate

        sample = subsampled(opened(), _SAMPLE)
        usual = max(rates, key=lambda rate: (rates[rate], rate)) if rates else _FASTEST
        rate = self.rate or min(usual, _FASTEST)
        durations += [count / rate for count in counts]
        longest = float(np.percentile(durations, 95)) if durations else 1.0
        seconds = self.seconds or min(max(longest, 0.1), _LONGEST)
        mels = self.mels or (40 if rate <= 8000 else 64)
        self.state = {"rate": rate, "length": max(1, math.ceil(seconds * rate)), "mels": mels}
        if self.features in _CEPSTRA:
            from sensorium.signal.front_ends import most_coefficients

            most = most_coefficients(self.features, rate, mels)
            if self.coefficients is not None and self.coefficients > most:
                raise ConfigError(
                    f"audio: {self.features} at {rate} Hz has at most {most} coefficients, not {self.coefficients}"
                )
            self.state["coefficients"] = self.coefficients or min(13, most)
        self.state |= self._moments(sample) | ({"opposed": [sum(opposed), len(opposed)]} if any(opposed) else {})

    def notes(self) -> str:
        opposed, total = self.state.get("opposed", (0, 0))
        return f"in {opposed} of {total} recordings the channels cancel each other out: one is used" if opposed else ""

    def _moments(self, sample: list[tuple[Array, int]]) -> dict[str, list[float]]:
        from sensorium.signal.mel import log_mel_of

        bands = self.state["mels"]
        if not self.standardise:
            count = 1 if self.features == "waveform" else (1 + self.deltas) * self._front.size
            return {"mean": [0.0] * count, "deviation": [1.0] * count}
        plain = self.denoise == "none" and not self.deltas
        moments: Moments | None = None
        for signal, rate in sample:
            signal = self._resampled(signal.astype(np.float32) / 32768, rate or self.state["rate"])
            if self.features == "logmel" and plain:
                rows = log_mel_of(signal, self.state["rate"], *self._window, bands)
            elif self.features == "waveform" and plain:
                rows = signal[:, None]
            else:
                rows = self._rows(signal)
            moments = Moments(rows.shape[1]) if moments is None else moments
            moments.add(rows)
        if moments is None:  # no readable recording
            size = 1 if self.features == "waveform" else bands if self.features == "logmel" else self._front.size
            moments = Moments(size * (1 + self.deltas))
        return {"mean": moments.mean, "deviation": moments.deviation(1e-4)}

    def _rows(self, signal: Array) -> Array:
        """Return the features of one signal ``[T]`` before standardisation: ``[frames, C * F]`` or ``[T, 1]``."""
        import torch

        alone = torch.from_numpy(signal)[None]
        data, mask = self._features(alone, torch.ones_like(alone, dtype=torch.bool))
        if data.dim() == 2:
            return np.asarray(data[0, :, None])
        return np.asarray(data[0].movedim(1, 0).flatten(1)[mask[0]])

    @property
    def layout(self) -> Layout:
        length = self.state["length"]
        if self.features == "waveform":
            return Grid(1, (length,), timed=True)
        from sensorium.signal.stft import frames

        return Grid(1 + self.deltas, (frames(length, *self._window), self._front.size), timed=True)

    def measure(self, cell: Any) -> dict[str, float]:
        if not isinstance(cell, Blob):
            return {}
        if container(cell.data):
            return {"seconds": (seconds := video_size(cell)[0]), "samples": seconds * _FILM_RATE}
        return dict(zip(("seconds", "samples"), sound_length(cell), strict=True))

    @property
    def longest(self) -> int:
        return int(self.state["length"])

    def encode(self, cell: Any) -> Array:
        rate = self.state["rate"]
        # Slightly more than is kept, so that the resampler's edge effect is cut off.
        signal, own_rate, *_ = _open(cell, self.state["length"] / rate + 0.05 if self.trim_db is None else _WHOLE)
        if self.trim_db is not None:
            most = math.ceil((self.state["length"] / rate + 0.05) * (own_rate or rate))
            signal = _trimmed(signal, own_rate or rate, self.trim_db)[0][:most]
        return _to_int16(self._resampled(signal, own_rate or rate))

    def extent(self, cell: Any) -> Array | None:
        """Return the length in seconds; with ``trim_db`` (the recording is then decoded) the length from where the kept
        part starts, and where that is.
        """
        if self.trim_db is None and isinstance(cell, Blob):
            seconds = self.measure(cell)["seconds"]
            return np.array([seconds], dtype=np.float32) if seconds > 0 else None
        try:
            signal, rate, *_ = _open(cell, _WHOLE)
        except CellError:  # reported by encode
            return None
        rate = rate or self.state["rate"]
        cut = [] if self.trim_db is None else [_trimmed(signal, rate, self.trim_db)[1] / rate]
        return np.array([len(signal) / rate - sum(cut), *cut], dtype=np.float32)

    def framing(self, extent: Array) -> Array:
        """Map seconds to stored samples."""
        mapping = np.zeros((len(extent), 1, 2), np.float32)
        mapping[:, 0, 0] = self.state["rate"]
        if self.trim_db is not None:
            mapping[:, 0, 1] = -extent[:, 1] * self.state["rate"]
        return mapping

    def blank(self) -> Array:
        return np.zeros(0, dtype=np.int16)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Standardised features of samples ``[B, T]`` int16; a frame then maps seconds to feature frames, at window
        centres.
        """
        import torch

        from sensorium.signal.augmentation import hide_bands, hide_stretch
        from sensorium.signal.geometry import apply_moves, frame_of_shift

        moves: list[Tensor] | None = None if field.frame is None else []
        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape)
        signal = field.data.float() / 32768
        augmented = generator is not None and self.augment != "none"
        strong = self.augment == "strong"
        if generator is not None:
            signal, mask = self._varied(signal, mask, generator, moves)
        if moves is not None and self.features != "waveform":
            window, hop = self._window
            moves.append(frame_of_shift(signal.new_full((len(signal),), 0.5 - window / (2 * hop)), 1 / hop))
        field = replace(field, frame=apply_moves(field.frame, moves))
        data, mask = self._features(signal, mask)
        mean = torch.tensor(self.state["mean"], device=data.device)
        deviation = torch.tensor(self.state["deviation"], device=data.device)
        if self.features == "waveform":
            return replace(field, data=((data - mean) / deviation * mask)[:, None], mask=mask)
        size = data.shape[1], 1, data.shape[3]
        data = (data - mean.view(size)) / deviation.view(size)
        if generator is not None and augmented:
            # Masks are the same in every channel. Cepstra are not ordered by frequency: only time is masked there.
            keep, times = torch.ones_like(data[:, 0]), 2 if strong else 1
            if self.features in _CEPSTRA:
                for _ in range(times):
                    keep = hide_stretch(keep, mask, generator, 0.12)
            else:
                keep = hide_bands(keep, mask, generator, times=times)
            data = data * keep[:, None]
        return replace(field, data=data * mask[:, None, :, None], mask=mask)

    def _varied(
        self, signal: Tensor, mask: Tensor, generator: torch.Generator, moves: list[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Augment signals and masks ``[B, T]``: shift, loudness, speed and noise."""
        import torch

        from sensorium.signal.audio_perturbation import babble, faster, mix
        from sensorium.signal.augmentation import shift, uniform
        from sensorium.signal.geometry import frame_of_shift

        rows, strong = signal.shape[0], self.augment == "strong"
        if self.augment != "none":
            signal = shift(signal, mask, round(self.state["rate"] * (0.1 if strong else 0.04)), generator, moves)
            gain = uniform((rows, 1), -0.7 if strong else -0.35, 0.7 if strong else 0.35, signal, generator)
            signal = signal * gain.exp()
        if self.speed:
            factor = uniform((rows,), -self.speed, self.speed, signal, generator)
            signal, lengths = faster(signal, 1 + factor, mask.sum(dim=1))
            if moves is not None:  # sample i, at the centre of cell i, is read from i times the factor
                moves.append(frame_of_shift(0.5 - 0.5 / (1 + factor), 1 / (1 + factor)))
            mask = torch.arange(mask.shape[1], device=mask.device) < lengths[:, None]
        if self.snr_db is not None:
            noise = babble(signal, mask.sum(dim=1), self.voices, generator)
            signal = mix(signal, noise, self.snr_db + uniform((rows,), 0, 20, signal, generator), mask.sum(dim=1))
        return signal, mask

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        from sensorium.signal.corruption import gap, noisy_sound

        return noisy_sound(value, level, rng) if how == "noise" else np.where(gap(len(value), level, rng), 0, value)

    @property
    def store_options(self) -> dict[str, Any]:
        trim = {} if self.trim_db is None else {"trim_db": self.trim_db}
        return {"rate": self.state["rate"], "length": self.state["length"], **trim}

    @property
    def _window(self) -> tuple[int, int]:
        rate = self.state["rate"]
        return max(2, round(rate * self.window_ms / 1000)), max(1, round(rate * self.hop_ms / 1000))

    @property
    def _front(self) -> FrontEnd:
        from sensorium.signal.front_ends import FrontEnd

        state = self.state
        count = state.get("coefficients", 0)
        return FrontEnd(self.features, state["rate"], *self._window, state["mels"], count, self.deltas)

    def _features(self, signal: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features ``[B, C, frames, F]`` of signals ``[B, T]``, or the signals themselves, and their mask."""
        lengths = mask.sum(dim=1)
        if self.denoise != "none":
            from sensorium.signal.denoise import denoise

            signal = denoise(signal, self.state["rate"], lengths, method=self.denoise)
        return (signal, mask) if self.features == "waveform" else self._front(signal, lengths)

    def _resampled(self, signal: Array, rate: int) -> Array:
        if rate != self.state["rate"]:
            import soxr

            signal = np.asarray(soxr.resample(signal, rate, self.state["rate"]), dtype=np.float32)
            if not len(signal):
                raise CellError("the recording is too short to be resampled")
        return signal[: self.state["length"]]


def _open(cell: Any, seconds: float) -> Sound:
    """Return the start of a recording ``[T]`` float32, its rate (0: unknown, for arrays) and its length in seconds."""
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        return Sound(*read_track(cell, seconds)) if container(cell.data) else read_sound(cell, seconds)
    signal, opposed = sound_from_array(cell)
    return Sound(signal, 0, 0.0, opposed)


def _trimmed(signal: Array, rate: int, below_db: float) -> tuple[Array, int]:
    from sensorium.signal.voice_activity import trimmed

    return trimmed(signal, rate, below_db)


def _to_int16(signal: Array) -> Array:
    return (signal * 32768).round().clip(-32768, 32767).astype(np.int16)


def _ending(cell: Any) -> str:
    """Return how a cell is recognised as audio: by its extension, its magic bytes, or as an array; empty if it is not."""
    if isinstance(cell, (str, os.PathLike)):
        ending = os.path.splitext(str(cell)[-300:].strip().lower())[1]
        return ending if ending in _ENDINGS else ""
    data = cell.data if isinstance(cell, Blob) else cell
    if isinstance(data, bytes):
        known = data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WAVE")
        return "the bytes of recordings" if known else ""
    return "array" if str(getattr(cell, "dtype", "")) == "int16" and getattr(cell, "ndim", 0) == 1 else ""

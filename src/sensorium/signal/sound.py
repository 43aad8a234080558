"""Sound out of bytes that may be anything."""

from __future__ import annotations

import io
import struct

import numpy as np

from sensorium.core.errors import CellError, reason
from sensorium.core.modality import Array, Blob

MINUTES = 30
"""Recordings that say they are longer are refused."""
SAMPLES = MINUTES * 60 * 96_000
"""So are those of which more samples would be read: half an hour of silence at the highest rate is a small file."""

_BLOCK = 2**16
_RATES = (100, 768_000)
_CHANNELS = 64
_OPEN_ENDED = 0x7FFF0000  # a writer to a pipe does not know the length, and writes a huge one


def read_sound(blob: Blob, seconds: float) -> tuple[Array, int, float]:
    """The first ``seconds`` of a recording as ``[T]`` float32 in ±1, mixed to one channel; its rate in Hz and full length.

    WAV, FLAC, OGG, MP3 and what else libsndfile reads. Memory follows what is really decoded, not what the header says.
    Raises ``CellError`` on whatever is no whole recording, or holds values that are not finite.
    """
    import soundfile

    if not blob.data:
        raise CellError("the file is empty", file=blob.name)
    plain = _plain_wav(blob)
    if plain is not None:
        samples, rate = plain
        some = samples[: int(np.ceil(seconds * rate))]
        one = some[:, 0].astype(np.float32) if some.shape[1] == 1 else some.mean(axis=1, dtype=np.float32)
        signal = one * np.float32(1 / 32768)
        return signal, rate, len(samples) / rate
    try:
        with soundfile.SoundFile(io.BytesIO(blob.data)) as file:
            rate, count, channels = file.samplerate, file.frames, file.channels
            if not _RATES[0] <= rate <= _RATES[1] or not 1 <= channels <= _CHANNELS:
                raise CellError(f"{channels} channels at {rate} Hz are no recording", file=blob.name)
            if count > MINUTES * 60 * rate:
                problem = f"the header says {count / rate / 60:.0f} minutes, more than the {MINUTES} allowed"
                raise CellError(problem, file=blob.name, fix="cut it into pieces")
            wanted = min(count, int(np.ceil(seconds * rate)))
            if wanted > SAMPLES:
                problem = f"{wanted} samples to read are more than the {SAMPLES} allowed"
                raise CellError(problem, file=blob.name, fix="cut it into pieces, or save it at a lower rate")
            parts: list[Array] = []
            got = 0
            while got < wanted:
                block = file.read(min(_BLOCK, wanted - got), dtype="float32", always_2d=True)
                if not len(block):
                    break
                parts.append(block.mean(axis=1) if channels > 1 else block[:, 0])
                got += len(block)
            lossy = file.format in ("MP3", "MPEG")
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, OSError, MemoryError) as error:
        raise CellError(f"not a recording that can be read ({reason(error)})", file=blob.name) from None
    # The length of an MP3 is an estimate where it has no table of contents.
    if got == 0 or (got < wanted and not lossy):
        problem = f"cut short: {got} of {count} samples are there" if got else "there is no sound in the file"
        raise CellError(problem, file=blob.name)
    return to_unit(np.concatenate(parts), blob.name), rate, count / rate


def seconds_of(blob: Blob) -> float:
    """Length of a recording as its header tells, nothing decoded; 0 where it does not."""
    import soundfile

    try:
        told = soundfile.info(io.BytesIO(blob.data))
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, OSError, MemoryError):
        return 0.0  # whoever reads it meets the same, and says what it is
    return float(told.frames / told.samplerate) if told.samplerate > 0 else 0.0


def _plain_wav(blob: Blob) -> tuple[Array, int] | None:
    """Samples ``[T, channels]`` and rate of a WAV of 16-bit PCM, the usual one: read without libsndfile, which takes
    several times as long over a short file. None: not such a file.

    Any WAV that was cut off is refused here: libsndfile shortens it without a word, but its header tells.
    """
    data = blob.data
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, known = 12, (0, 0, 0, 0)
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"fmt " and at + 24 <= len(data):
            code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
            known = (code, bits, channels, rate)
        if name == b"data":
            there = len(data) - at - 8
            if there < size < _OPEN_ENDED:
                raise CellError(f"cut short: {there} of {size} bytes of sound are there", file=blob.name)
            code, bits, channels, rate = known
            count = size // (2 * channels) if channels else 0
            usual = code == 1 and bits == 16 and 1 <= channels <= _CHANNELS and _RATES[0] <= rate <= _RATES[1]
            if not usual or size >= _OPEN_ENDED or not 0 < count <= MINUTES * 60 * rate:
                return None
            samples = np.frombuffer(data, "<i2", count * channels, at + 8)
            return samples.reshape(count, channels), rate
        at += 8 + size + size % 2
    return None


def to_unit(signal: Array, name: str = "<array>") -> Array:
    """A signal ``[T]`` as float32 in ±1; louder ones are scaled down whole, so that nothing is clipped."""
    if signal.dtype.kind == "u":
        signal = signal.astype(np.float32) / (np.iinfo(signal.dtype).max / 2) - 1
    elif signal.dtype.kind == "i":
        signal = signal.astype(np.float32) / -float(np.iinfo(signal.dtype).min)
    with np.errstate(over="ignore"):
        signal = signal.astype(np.float32)
    peak = float(np.abs(signal).max(initial=0.0))
    if not np.isfinite(peak):
        raise CellError("the recording has values that are not finite", file=name)
    return signal / peak if peak > 1 else signal

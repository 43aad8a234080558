"""Sound decoder for untrusted bytes: WAV, FLAC, OGG, MP3 and other formats of libsndfile."""

from __future__ import annotations

import io
import struct
from typing import Any, NamedTuple

import numpy as np

from sensorium.core.errors import CellError, reason
from sensorium.core.modality import Array, Blob

MINUTES = 30
"""Maximum length of a recording in minutes, by its header."""
SAMPLES = MINUTES * 60 * 96_000
"""Maximum number of samples to decode: half an hour of silence at the highest rate is a small file."""

_BLOCK = 2**16
_RATES = (100, 768_000)
_CHANNELS = 64
_OPEN_ENDED = 0x7FFF0000  # writers to a pipe do not know the length and write a huge one, or 0
_TOLERANCE = 0.02  # seconds by which a header may be wrong; recordings that lack more are truncated
_CANCELLED = 1e-3  # share of the energy of the louder channel; the mean of two unrelated channels keeps half of it
_CHUNKS = (
    b"data",
    b"fact",
    b"LIST",
    b"bext",
    b"cue ",
    b"smpl",
    b"inst",
    b"id3 ",
    b"ID3 ",
    b"JUNK",
    b"PEAK",
    b"iXML",
    b"fmt ",
)


class Sound(NamedTuple):
    """A recording mixed to one channel.

    Args:
        signal: ``[T]`` float32 in ±1.
        rate: Sampling rate in Hz.
        seconds: Full length in seconds.
        opposed: Whether the channels cancel each other out (inverted polarity), so that the louder one was used.
    """

    signal: Array
    rate: int
    seconds: float
    opposed: bool = False


def read_sound(blob: Blob, seconds: float) -> Sound:
    """Decode the first ``seconds`` of a recording ``blob``: WAV, FLAC, OGG, MP3 and other formats of libsndfile.

    Memory is allocated for decoded samples, not for the length in the header. Wrong sizes in WAV headers are corrected.

    Raises:
        CellError: The file is not a recording, is truncated, too long, or has values that are not finite.
    """
    if not blob.data:
        raise CellError("the file is empty", file=blob.name)
    plain = _plain_wav(blob)
    if isinstance(plain, bytes):
        blob = Blob(plain, blob.name)
    elif plain is not None:
        samples, rate = plain
        mono, opposed = one_channel(samples[: int(np.ceil(seconds * rate))])
        return Sound(mono * np.float32(1 / 32768), rate, len(samples) / rate, opposed)
    mixed, channel, rate, count = _decode(blob, seconds, None)
    if channel is not None:
        mixed = _decode(blob, seconds, channel)[0]
    return Sound(to_unit(mixed, blob.name), rate, count / rate, channel is not None)


def one_channel(samples: Array) -> tuple[Array, bool]:
    """Mix ``samples`` (``[T, channels]``) to ``[T]`` float32: the mean, or the louder channel if they cancel out.

    The second value is True in the latter case.
    """
    if samples.shape[1] == 1:
        return samples[:, 0].astype(np.float32), False
    mean = np.asarray(samples.mean(axis=1, dtype=np.float32))
    energies = np.square(samples, dtype=np.float64).sum(axis=0)
    loudest = int(energies.argmax())
    if np.square(mean, dtype=np.float64).sum() < _CANCELLED * energies[loudest]:
        return samples[:, loudest].astype(np.float32), True
    return mean, False


def _decode(blob: Blob, seconds: float, channel: int | None) -> tuple[Array, int | None, int, int]:
    """Decode one channel or the mean of all; return it, the channel to use if they cancel out, the rate and the length."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(blob.data)) as file:
            rate, count, channels = file.samplerate, file.frames, file.channels
            if not _RATES[0] <= rate <= _RATES[1] or not 1 <= channels <= _CHANNELS:
                raise CellError(f"{channels} channels at {rate} Hz are not supported", file=blob.name)
            if count > MINUTES * 60 * rate:
                problem = f"the header says {count / rate / 60:.0f} minutes, more than the {MINUTES} allowed"
                raise CellError(problem, file=blob.name, fix="split it")
            wanted = min(count, int(np.ceil(seconds * rate)))
            if wanted > SAMPLES:
                problem = f"{wanted} samples to read are more than the {SAMPLES} allowed"
                raise CellError(problem, file=blob.name, fix="split it, or save it at a lower sampling rate")
            parts: list[Array] = []
            got, mixed, energies = 0, 0.0, np.zeros(channels)
            while got < wanted:
                block = file.read(min(_BLOCK, wanted - got), dtype="float32", always_2d=True)
                if not len(block):
                    break
                part = block.mean(axis=1) if channels > 1 and channel is None else block[:, channel or 0]
                parts.append(part)
                got += len(block)
                if channels > 1:
                    mixed += float(np.square(part, dtype=np.float64).sum())
                    energies += np.square(block, dtype=np.float64).sum(axis=0)
            lossy = file.format in ("MP3", "MPEG")
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, OSError, MemoryError) as error:
        raise CellError(f"the recording cannot be read ({reason(error)})", file=blob.name) from None
    # The length of an MP3 without a table of contents is an estimate.
    if got == 0 or (got < wanted and not lossy):
        problem = f"cut short: {got} of {count} samples are present" if got else "the file has no sound"
        raise CellError(problem, file=blob.name)
    cancelled = channels > 1 and mixed < _CANCELLED * energies.max(initial=0.0)
    return np.concatenate(parts), int(energies.argmax()) if cancelled else None, rate, count


def sound_length(blob: Blob) -> tuple[float, int]:
    """Return the seconds and the samples over all channels of ``blob`` from its header; 0 if they are unknown."""
    import soundfile

    try:
        plain = _plain_wav(blob)
        if isinstance(plain, tuple):
            return len(plain[0]) / plain[1], plain[0].size
        info = soundfile.info(io.BytesIO(plain or blob.data))
    except (CellError, soundfile.SoundFileError, RuntimeError, ValueError, TypeError, OSError, MemoryError):
        return 0.0, 0  # decoding raises the same error and reports it
    return (info.frames / info.samplerate, info.frames * info.channels) if info.samplerate > 0 else (0.0, 0)


def _plain_wav(blob: Blob) -> tuple[Array, int] | bytes | None:
    """Decode a WAV of 16-bit PCM to samples ``[T, channels]`` and the rate, several times faster than libsndfile.

    For another WAV with wrong sizes, return the bytes with correct sizes; None if neither applies. Truncated WAV files are
    refused here, since libsndfile shortens them silently.
    """
    data = blob.data
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, form, wrong = 12, b"", False
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"fmt ":
            form = data[at + 8 : at + 8 + size]
        if name == b"data":
            available = len(data) - at - 8
            code, channels, rate, block, bits = _format(form)
            if size == 0 and available and not _begins_chunk(data, at + 8):
                size, wrong = available, True  # its writer did not know the length
            elif available < size < _OPEN_ENDED:
                complete = struct.unpack_from("<I", data, 4)[0] + 8 == len(data)
                if not complete and size - available > _TOLERANCE * max(rate * block, 1):
                    raise CellError(f"cut short: {available} of {size} bytes of sound are present", file=blob.name)
                size, wrong = available, True
            count = size // (2 * channels) if channels else 0
            is_pcm16 = code == 1 and bits == 16 and 1 <= channels <= _CHANNELS and _RATES[0] <= rate <= _RATES[1]
            if is_pcm16 and size < _OPEN_ENDED and 0 < count <= MINUTES * 60 * rate:
                samples = np.frombuffer(data, "<i2", count * channels, at + 8)
                return samples.reshape(count, channels), rate
            return _wav(form, data[at + 8 : at + 8 + size - size % max(block, 1)]) if wrong else None
        following = at + 8 + size + size % 2
        if size % 2 and data[following - 1 : following + 3] in _CHUNKS:
            following, wrong = following - 1, True  # the padding byte is missing
        at = following
    return None


def _format(form: bytes) -> tuple[int, int, int, int, int]:
    """Return code, channels, rate, bytes per frame and bits per sample; zeros if the chunk is too short."""
    if len(form) < 16:
        return 0, 0, 0, 0, 0
    code, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
    return code, channels, rate, block, bits


def _begins_chunk(data: bytes, at: int) -> bool:
    return data[at : at + 4] in _CHUNKS and at + 8 <= len(data)


def _wav(form: bytes, sound: bytes) -> bytes:
    """Return a WAV file with this format chunk and data."""
    form += b"\0" * (len(form) % 2)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(sound)) + sound
    return b"RIFF" + struct.pack("<I", len(body)) + body


def sound_from_array(cell: Any) -> tuple[Array, bool]:
    """Return the array or list ``cell`` as a signal ``[T]`` float32 in ±1: ``[T]``, ``[T, channels]`` or ``[channels, T]``.

    The second value is True if the channels cancel each other out, so that the louder one was used.

    Raises:
        CellError: The shape or type is not that of a recording.
    """
    try:
        array = np.asarray(cell)
    except (ValueError, TypeError):
        raise CellError(f"a {type(cell).__name__} is not a recording") from None
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2) or array.size == 0:
        raise CellError(
            f"an array of shape {array.shape} and type {array.dtype} is not a recording", fix="use [T] or [T, channels]"
        )
    opposed = False
    if array.ndim == 2:
        kind = array.dtype
        array, opposed = one_channel(array if array.shape[0] > array.shape[1] else array.T)
        array = array.astype(kind) if kind.kind in "iu" else array
    return to_unit(array), opposed


def to_unit(signal: Array, name: str = "<array>") -> Array:
    """Convert ``signal`` (``[T]``) to float32 in ±1, scaled down instead of clipped; ``name`` is for messages."""
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

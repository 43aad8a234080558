"""WAV files with wrong headers are decoded or refused with the correct reason."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
import pytest
import soundfile

from sensorium.codecs.audio import read_sound, sound_length
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob
from sensorium.modalities.audio import Audio

RATE, COUNT = 16_000, 16_000
TONE = (0.4 * np.sin(np.arange(COUNT) * 0.17)).astype(np.float32)


def wav(subtype: str = "PCM_16", signal: np.ndarray = TONE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, signal, RATE, format="WAV", subtype=subtype)
    return file.getvalue()


def sized(data: bytes, *, riff: int | None = None, sound: int | None = None) -> bytes:
    """Return the file with other sizes in its header: differences from the correct ones, or 0 for no size."""
    out, at = bytearray(data), data.index(b"data") + 4
    for place, size in ((4, riff), (at, sound)):
        if size is not None:
            (right,) = struct.unpack_from("<I", data, place)
            struct.pack_into("<I", out, place, right + size if size else 0)
    return bytes(out)


def with_chunk(data: bytes, chunk: bytes) -> bytes:
    at = data.index(b"data")
    return data[:at] + chunk + data[at:]


FAULTS = {
    "right": lambda data: data,
    "no sizes": lambda data: sized(data, riff=0, sound=0),
    "no data size": lambda data: sized(data, sound=0),
    "16 bytes too many": lambda data: sized(data, riff=16, sound=16),
    "far too many in the sound alone": lambda data: sized(data, sound=2**20),
    "an odd chunk": lambda data: with_chunk(data, b"LIST\x07\0\0\0INFOabc"),
    "an odd chunk, made even": lambda data: with_chunk(data, b"LIST\x07\0\0\0INFOabc\0"),
    "a huge length": lambda data: sized(
        data, sound=0xFFFFFFFF - struct.unpack_from("<I", data, data.index(b"data") + 4)[0]
    ),
}


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_sizes_are_corrected(fault: str, subtype: str) -> None:
    blob = Blob(FAULTS[fault](wav(subtype)), "a.wav")
    sound = read_sound(blob, 60.0)
    assert (len(sound.signal), sound.rate, sound.seconds, sound.opposed) == (COUNT, RATE, 1.0, False)
    np.testing.assert_allclose(sound.signal, TONE, atol=1 / 32768)
    assert sound_length(blob)[0] == 1.0


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (wav()[:-6000], "cut short: 26000 of 32000 bytes"),
        (wav()[:44], "cut short|no sound"),
        (wav(signal=TONE[:0]), "no sound"),
        (with_chunk(wav(signal=TONE[:0]), b"") + b"LIST\4\0\0\0INFO", "no sound"),
        (b"RIFF\0\0\0\0WAVEdata", "cannot be read|no sound"),
        (b"rubbish" * 20, "cannot be read"),
    ],
)
def test_invalid_files_are_refused_with_the_reason(data: bytes, problem: str) -> None:
    with pytest.raises(CellError, match=problem) as caught:
        read_sound(Blob(data, "a.wav"), 60.0)
    assert not re.search("0x[0-9a-f]{5}|BytesIO", str(caught.value))


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_cancelling_channels_use_the_louder_one(subtype: str) -> None:
    opposed = np.stack([0.9 * TONE, -TONE * 0.91], axis=1)
    sound = read_sound(Blob(wav(subtype, opposed), "a.wav"), 60.0)
    assert sound.opposed
    np.testing.assert_allclose(sound.signal, -0.91 * TONE, atol=2e-4)
    for fine in (
        np.stack([TONE, TONE], axis=1),
        np.stack([TONE, 0 * TONE], axis=1),
        np.stack([TONE, np.roll(TONE, 9)], axis=1),
    ):
        sound = read_sound(Blob(wav(subtype, fine), "a.wav"), 60.0)
        assert not sound.opposed
        np.testing.assert_allclose(sound.signal, fine.mean(axis=1), atol=2e-4)
    assert not read_sound(Blob(wav(subtype, 0 * opposed), "a.wav"), 60.0).opposed


def test_audio_modality_notes_cancelling_channels() -> None:
    opposed = Blob(wav(signal=np.stack([TONE, -TONE], axis=1)), "a.wav")
    audio = Audio()
    audio.fit([opposed, opposed, Blob(wav(), "b.wav"), np.stack([TONE, -TONE], axis=1)])
    assert audio.notes() == "in 3 of 4 recordings the channels cancel each other out: one is used"
    assert np.abs(audio.encode(opposed)).max() > 10_000
    plain = Audio()
    plain.fit([Blob(wav(), "b.wav")])
    assert not plain.notes()
    assert "opposed" not in plain.state

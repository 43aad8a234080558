"""Video decoder: frames, sound tracks, bounded work and damaged files."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import time
from typing import Any

import numpy as np
import pytest

from sensorium.codecs import video as codec
from sensorium.codecs.molecule import read_smiles
from sensorium.codecs.video import frame_times, has_sound, read_track, read_video
from sensorium.core.errors import CellError, MissingExtraError
from sensorium.core.modality import Blob
from sensorium.modalities.audio import Audio
from sensorium.modalities.video import Video

av = pytest.importorskip("av")


def video(
    frames: int = 20,
    *,
    format: str = "mp4",
    sound: bool = True,
    rate: int = 10,
    size: tuple[int, int] = (64, 48),
    gop: int = 12,
) -> Blob:
    """Frame ``i`` has the brightness ``10 · i`` (twenty of them), the sound is 440 Hz that starts at half time."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as out:
        picture = out.add_stream("mpeg4", rate=rate, options={"g": str(gop)})
        picture.width, picture.height, picture.pix_fmt = *size, "yuv420p"
        tone = out.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for i in range(frames):
            level = 10 * (i % 20)
            shot = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level, np.uint8), format="rgb24")
            out.mux(picture.encode(shot))
        out.mux(picture.encode())
        if tone is not None:
            t = np.arange(frames * 16_000 // rate) / 16_000
            wave = 0.5 * np.sin(2 * np.pi * 440 * t) * (t >= t[-1] / 2)
            block = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
            block.rate = 16_000
            out.mux(tone.encode(block))
            out.mux(tone.encode())
    return Blob(file.getvalue(), f"a.{format}")


CLIP = video()
FORMATS = ("mp4", "matroska", "avi", "mov")


def levels(clip_frames: codec.VideoFrames) -> list[int]:
    return [round(float(frame.mean()) / 10) for frame in clip_frames.frames]


@pytest.mark.parametrize("format", FORMATS)
def test_frames_at_evenly_spaced_times(format: str) -> None:
    clip = video(format=format, sound=format != "avi")
    assert levels(read_video(clip, 4, None, (12, 16))) == [2, 7, 12, 17]
    assert levels(read_video(clip, 50, None, (12, 16))) == list(range(20))
    assert levels(read_video(clip, 1, None, (12, 16))) == [10]


def test_frames_by_rate() -> None:
    assert levels(read_video(CLIP, 8, 5.0, (12, 16))) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert levels(read_video(CLIP, 50, 2.0, (12, 16))) == [0, 5, 10, 15]
    assert levels(read_video(CLIP, 3, 0.01, (12, 16))) == [0]
    assert frame_times(2.0, 0.1, 8, 5.0) == pytest.approx([i / 5 for i in range(8)])


def test_size_and_times() -> None:
    clip_frames = read_video(CLIP, 2, None, (12, 16))
    assert clip_frames.frames.shape == (2, 12, 16, 3)
    assert clip_frames.size == (48, 64)
    assert clip_frames.times == pytest.approx([0.5, 1.5], abs=0.051)
    assert read_video(CLIP, 1, None, 32).frames.shape == (1, 24, 32, 3)


def test_seeking_gives_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    long = video(400, sound=False)
    sequential = read_video(long, 5, None, (12, 16))
    assert levels(sequential) == [0, 0, 0, 0, 0]  # frames 40, 120, 200, ... of twenty levels
    monkeypatch.setattr(codec, "SEQUENTIAL_FRAMES", 10)
    by_seeking = read_video(long, 5, None, (12, 16))
    assert levels(by_seeking) == levels(sequential)
    assert by_seeking.times == pytest.approx(sequential.times, abs=1e-6)


def test_work_is_bounded_with_rare_key_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "SEQUENTIAL_FRAMES", 10)
    monkeypatch.setattr(codec, "FRAMES_PER_SEEK", 5)
    rare = video(400, sound=False, gop=300)
    clip_frames = read_video(rare, 5, None, (12, 16))
    assert 1 <= len(clip_frames.frames) <= 5
    assert max(clip_frames.times) < 40


def test_hour_long_video_is_fast() -> None:
    hour = video(3600, rate=1, sound=False, size=(32, 32), gop=60)
    begin = time.process_time()
    clip_frames = read_video(hour, 8, None, (16, 16))
    assert len(clip_frames.frames) == 8
    assert clip_frames.times == pytest.approx([(i + 0.5) * 450 for i in range(8)], abs=1.1)
    assert time.process_time() - begin < 3


def test_sound_track_is_aligned_with_the_frames() -> None:
    signal, rate, duration = read_track(CLIP, 10)
    assert rate == 16_000
    assert duration == pytest.approx(2.0, abs=0.15)
    second = rate
    assert np.abs(signal[: second - 1200]).max() < 0.05  # nothing sounds before half time
    loud = signal[second + 1600 : second + 9600]
    spectrum = np.abs(np.fft.rfft(loud * np.hanning(len(loud))))
    assert np.argmax(spectrum) * rate / len(loud) == pytest.approx(440, abs=3)
    short, _, _ = read_track(CLIP, 0.5)
    assert len(short) == 8000
    assert np.array_equal(short, signal[:8000])


def test_matroska_sound_is_aligned() -> None:
    signal, rate, _ = read_track(video(format="matroska"), 10)
    start = int(np.argmax(np.abs(signal) > 0.2)) / rate
    assert start == pytest.approx(1.0, abs=0.08)  # its muxer puts the codec's delay of 64 ms before it


def test_video_and_audio_streams_of_one_cell() -> None:
    picture, sound = Video(frames=4), Audio()
    picture.fit([CLIP])
    sound.fit([CLIP])
    assert picture.encode(CLIP).shape == (4, 1, 64, 64)  # nearly square
    assert sound.encode(CLIP).dtype == np.int16
    assert Video.derived_columns([CLIP], "clip") == {"clip_sound": {"kind": "audio"}}
    silent = video(sound=False)
    assert not has_sound(silent)
    assert Video.derived_columns([silent, Blob(b"no", "b")], "clip") == {}
    with pytest.raises(CellError, match="no sound track"):
        sound.encode(silent)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("part", [0.001, 0.3, 0.6, 0.9, 0.99])
def test_truncated_videos_are_refused(format: str, part: float) -> None:
    complete = video(format=format, sound=format != "avi")
    cut = Blob(complete.data[: int(len(complete.data) * part)], complete.name)
    for read in (lambda: read_video(cut, 8, None, 32), lambda: read_track(cut, 1)):
        with pytest.raises(CellError) as error:
            read()
        assert error.value.file == complete.name


BAD: list[tuple[Any, str]] = [
    (b"", "empty"),
    (b"not a video at all", "known format"),
    (b"#EXTM3U\nfile:///etc/passwd\n", "known format"),
    (b"ffconcat version 1.0\nfile /etc/passwd\n", "known format"),
    (b"\0\0\0\x1cftypisom" + bytes(100), "damaged"),
    (b"\x1aE\xdf\xa3" + bytes(50), "damaged"),
    (b"RIFF\x04\0\0\0AVI ", "damaged"),
]


@pytest.mark.parametrize(("data", "problem"), BAD)
def test_invalid_files_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(CellError, match=problem):
        read_video(Blob(data, "a"), 4, None, 32)


def test_damaged_files_raise_only_cell_errors() -> None:
    draw = np.random.default_rng(0)
    for format in ("mp4", "matroska", "avi"):
        complete = video(8, format=format, sound=format != "avi", size=(32, 32)).data
        for _ in range(40):
            damaged = bytearray(complete)
            for at in draw.integers(0, len(damaged), 3):
                damaged[at] = int(draw.integers(0, 256))
            try:
                frames = read_video(Blob(bytes(damaged), "a"), 4, None, (12, 16)).frames
            except CellError:
                continue
            assert frames.shape[1:] == (12, 16, 3)


def test_decoder_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    damaged = bytearray(CLIP.data)
    damaged[len(damaged) // 3 : len(damaged) // 2] = bytes(len(damaged) // 2 - len(damaged) // 3)
    for data in (bytes(damaged), CLIP.data[:50], b"\0\0\0\x1cftypisom" + bytes(100)):
        with contextlib.suppress(CellError):
            read_video(Blob(data, "a"), 4, None, 32)
        with contextlib.suppress(CellError):
            read_track(Blob(data, "a"), 4)
    assert capfd.readouterr() == ("", "")


def test_rotated_video_is_shown_upright() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        picture = out.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        shot = np.zeros((48, 64, 3), np.uint8)
        shot[:24] = 200  # the upper half is light
        for _ in range(3):
            out.mux(picture.encode(av.VideoFrame.from_ndarray(shot, format="rgb24")))
        out.mux(picture.encode())
    # As a telephone writes it: to be shown a quarter turn with the clock (ISO 14496-12, 8.3.2, the matrix of tkhd).
    data = bytearray(file.getvalue())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    clip_frames = read_video(Blob(bytes(data), "a"), 1, None, 64)
    assert clip_frames.size == (64, 48)
    assert clip_frames.frames.shape == (1, 64, 48, 3)
    assert clip_frames.frames[0, :, 26:].mean() > 150 > 50 > clip_frames.frames[0, :, :22].mean()
    assert read_video(Blob(bytes(data), "a"), 1, None, (32, 24)).frames.shape == (1, 32, 24, 3)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"sensorium\[video"):
        read_video(CLIP, 4, None, 32)
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(MissingExtraError, match=r"sensorium\[molecule"):
        read_smiles("CCO")


def test_limits_on_frame_size_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "PIXELS", 1000)
    with pytest.raises(CellError, match="64 × 48 pixels"):
        read_video(CLIP, 4, None, 32)
    monkeypatch.undo()
    monkeypatch.setattr(codec, "HOURS", 0.0001)
    with pytest.raises(CellError, match="hours"):
        read_video(CLIP, 4, None, 32)

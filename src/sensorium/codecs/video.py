"""Video decoder for untrusted files: frames and sound tracks."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from sensorium.codecs.audio import MINUTES, to_unit
from sensorium.codecs.image_arrays import inside
from sensorium.core.errors import CellError, MissingExtraError, reason
from sensorium.core.modality import Array, Blob
from sensorium.signal.running_moments import subsampled

_CLOCK = re.compile(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d{1,9})?)$")

HOURS = 12
"""Maximum length of a video in hours, by its header."""
PIXELS = 36 * 2**20
"""Maximum number of pixels of a frame, before decoding (8K has 33 million)."""
SEQUENTIAL_FRAMES = 600
"""Videos of up to this many frames are decoded sequentially; longer ones by seeking."""
FRAMES_PER_SEEK = 300
"""Maximum number of frames decoded after seeking; then the current frame is used."""
FRAMES_UNKNOWN_LENGTH = 20_000
"""Maximum number of frames decoded of a file of unknown length."""


class VideoFrames(NamedTuple):
    """Frames of a video.

    Args:
        frames: ``[T, h, w, 3]`` uint8, upright.
        size: The height and width of the video.
        times: Presentation time of each frame in seconds ``[T]``.
    """

    frames: Array
    size: tuple[int, int]
    times: list[float]


def container(data: bytes) -> str:
    """Return the name of the container format by the first bytes of ``data``; empty if it is not supported.

    FFmpeg gets this name, since by guessing it would also open playlists and the files they name.
    """
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return "mov"
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    if data.startswith(b"\0\0\x01\xba"):
        return "mpeg"
    if data[:1] == b"G" and data[188:189] == b"G":
        return "mpegts"
    return "gif" if data.startswith(b"GIF8") else "flv" if data.startswith(b"FLV\1") else ""


def has_sound(blob: Blob) -> bool:
    """Return whether the video ``blob`` has a sound track. Raises ``CellError`` if it is not a video."""
    with _opened(blob) as file:
        return bool(file.streams.audio)


def read_video(blob: Blob, most: int, rate: float | None, frame: tuple[int, int] | int) -> VideoFrames:
    """Decode frames of a video.

    Work is bounded, however long the video is: about ``SEQUENTIAL_FRAMES`` frames are decoded, or ``FRAMES_PER_SEEK`` per
    wanted frame, or ``FRAMES_UNKNOWN_LENGTH`` where the header states no length.

    Args:
        blob: The file.
        most: Maximum number of frames.
        rate: Frames per second, from the beginning; None: spread evenly over the video.
        frame: The height and width to fit the frames into, or their maximum longer side.

    Raises:
        CellError: The file is not a video, is damaged, truncated or too large.
    """
    with _opened(blob) as file:
        if not file.streams.video:
            raise CellError("the file has no video track, only sound")
        stream = file.streams.video[0]
        wide, high = stream.codec_context.width, stream.codec_context.height
        if not 0 < wide * high <= PIXELS:
            problem = f"the frames are {wide} × {high} pixels: none, or more than the {PIXELS / 2**20:.0f} million allowed"
            raise CellError(problem, fix="reduce its size")
        stream.codec_context.thread_count = 1  # cells are already decoded in threads
        duration = _duration(file, stream)
        if duration > HOURS * 3600:
            raise CellError(f"the header says {duration / 3600:.0f} hours, more than the {HOURS} allowed", fix="split it")
        interval = 1 / float(stream.average_rate or 25)
        if duration <= 0:
            limit = subsampled(zip(range(FRAMES_UNKNOWN_LENGTH), file.decode(stream), strict=False), 4 * most)
            decoded = [frame for _, frame in limit]
            if len(decoded) > most:
                decoded = [decoded[int((i + 0.5) * len(decoded) / most)] for i in range(most)]
        else:
            times = frame_times(duration, interval, most, rate)
            sequential = duration / interval <= SEQUENTIAL_FRAMES
            decoded = list(_read_sequentially(file, stream, times) if sequential else _read_by_seeking(file, stream, times))
        if not decoded:
            raise CellError("no frame can be decoded")
        start = _start(stream)
        size = (wide, high) if _turns(decoded[0]) % 2 else (high, wide)
        frames = np.stack([_pixels(image, frame) for image in decoded])
        return VideoFrames(frames, size, [float(image.time or 0) - start for image in decoded])


def video_size(blob: Blob) -> tuple[float, int]:
    """Return the seconds of the video ``blob`` and the pixels of a frame from its header; 0 if they are unknown."""
    try:
        with _opened(blob) as file:
            stream = next(iter(file.streams.video or file.streams.audio), None)
            if stream is None:
                return 0.0, 0
            context = stream.codec_context
            return _duration(file, stream), context.width * context.height if file.streams.video else 0
    except CellError:  # decoding raises the same error and reports it
        return 0.0, 0


def video_frame_size(blob: Blob) -> tuple[int, int]:
    """Return the height and width of the frames of ``blob`` as shown; the first is decoded for its rotation."""
    with _opened(blob) as file:
        if not file.streams.video:
            raise CellError("the file has no video track, only sound")
        stream = file.streams.video[0]
        wide, high = stream.codec_context.width, stream.codec_context.height
        if not 0 < wide * high <= PIXELS:
            raise CellError(f"the frames are {wide} × {high} pixels: none, or too large")
        stream.codec_context.thread_count = 1
        first = next(iter(file.decode(stream)), None)
        if first is None:
            raise CellError("no frame can be decoded")
        return (wide, high) if _turns(first) % 2 else (high, wide)


def video_pace(blob: Blob, most: int, rate: float | None) -> tuple[float, float]:
    """Return the length of the video ``blob`` in seconds and the seconds from one frame that ``read_video`` takes to the
    next, with ``most`` and ``rate`` as there; 0 and 0 where the header states no length."""
    with _opened(blob) as file:
        if not file.streams.video:
            raise CellError("the file has no video track, only sound")
        stream = file.streams.video[0]
        duration = _duration(file, stream)
        if duration <= 0:
            return 0.0, 0.0
        times = frame_times(duration, 1 / float(stream.average_rate or 25), most, rate)
        return duration, 1 / rate if rate is not None else duration / len(times)


def frame_times(duration: float, interval: float, most: int, rate: float | None) -> list[float]:
    """Return the times in seconds at which frames are taken.

    Args:
        duration: Length of the video in seconds.
        interval: Seconds between its frames.
        most: Maximum number of frames.
        rate: Frames per second from the beginning; None: the centres of ``most`` equal parts.
    """
    if rate is not None:
        return [i / rate for i in range(most) if i == 0 or i / rate < duration]
    count = max(1, min(most, round(duration / interval)))
    return [(i + 0.5) * duration / count for i in range(count)]


def read_track(blob: Blob, seconds: float) -> tuple[Array, int, float]:
    """Decode the first ``seconds`` of the sound track of ``blob``.

    Time starts at the first video frame: sound that starts later is preceded by silence.

    Returns:
        The signal ``[T]`` float32 in ±1, mixed to one channel; its sampling rate in Hz; its full length in seconds.

    Raises:
        CellError: The video has no sound track, or is damaged.
    """
    import av

    with _opened(blob) as file:
        if not file.streams.audio:
            raise CellError("the video has no sound track")
        stream = file.streams.audio[0]
        stream.codec_context.thread_count = 1
        rate = int(stream.codec_context.sample_rate)
        if not 100 <= rate <= 768_000:
            raise CellError(f"a sampling rate of {rate} Hz is not supported")
        duration = min(_duration(file, stream), MINUTES * 60.0)
        start = _start(file.streams.video[0]) if file.streams.video else 0.0
        mixer = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        most = int(np.ceil(seconds * rate))
        parts: list[Array] = []
        got = 0
        for packed in file.decode(stream):
            for block in mixer.resample(packed):
                part = block.to_ndarray()[0]
                if not parts and packed.time is not None:
                    lead = round((packed.time - start) * rate)
                    part = np.concatenate([np.zeros(min(lead, most), np.float32), part]) if lead > 0 else part[-lead:]
                parts.append(part)
                got += len(part)
            if got >= most:
                break
        if not got:
            raise CellError("the sound track is empty")
        return to_unit(np.concatenate(parts)[:most], blob.name), rate, max(duration, min(got, most) / rate)


@contextmanager
def _opened(blob: Blob) -> Iterator[Any]:
    """Open the container and close it afterwards; any error in it becomes a ``CellError`` of this file."""
    try:
        import av
    except ImportError:
        raise MissingExtraError("reading videos", "video") from None
    if not blob.data:
        raise CellError("the file is empty", file=blob.name)
    kind = container(blob.data)
    if not kind:
        raise CellError("not a video of a known format (MP4, MOV, MKV, WebM, AVI, MPEG, FLV, GIF)", file=blob.name)
    try:
        _check_complete(blob.data, kind)
        with av.open(io.BytesIO(blob.data), format=kind) as file:
            yield file
    except CellError as error:
        raise CellError(error.problem, file=blob.name, fix=error.fix) from None
    except Exception as error:  # a hostile file can raise any error in a decoder, but must only affect its cell
        raise CellError(f"the video is damaged or cut short ({reason(error)})", file=blob.name) from None


def _check_complete(data: bytes, kind: str) -> None:
    """Refuse a file that is shorter than its outermost sizes state, since decoders shorten it silently."""
    ends = 0
    if kind == "mov":
        at = 0
        while at + 8 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if size == 1 and at + 16 <= len(data):
                size = int.from_bytes(data[at + 8 : at + 16], "big")
            if size < 8:  # 0: until the end of the file
                break
            at += size
        ends = at
    elif kind == "avi":
        ends = 8 + int.from_bytes(data[4:8], "little")
    elif kind == "matroska":
        ends = _matroska_end(data)
    if ends > len(data):
        raise CellError(f"cut short: {len(data)} of {ends} bytes are present", fix="copy it again")


def _matroska_end(data: bytes) -> int:
    """Return the size of a Matroska file by its header; 0 if it is unknown (a live recording)."""

    def size(at: int) -> tuple[int, int]:
        # The leading zeros of the first byte encode the length of the number in bytes (RFC 8794, § 4).
        first = data[at] if at < len(data) else 0
        length = 9 - first.bit_length()
        value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
        return at + length, -1 if not first or value == (1 << 7 * length) - 1 else value

    at, head = size(4)
    at += max(head, 0)
    if data[at : at + 4] != b"\x18S\x80g":
        return 0
    at, body = size(at + 4)
    return at + body if body > 0 else 0


def _duration(file: Any, stream: Any) -> float:
    """Return the seconds of a stream by its header or that of the file; 0 if they are unknown."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska has the duration of the file, and that of each stream in a tag.
    tag = _CLOCK.match(stream.metadata.get("DURATION", ""))
    if tag is not None:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    return file.duration / 1e6 if file.duration else 0.0


def _start(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time else 0.0


def _read_sequentially(file: Any, stream: Any, times: list[float]) -> Iterator[Any]:
    """Yield the frames shown at ``times``, decoded from the beginning."""
    left, start = list(times), _start(stream)
    shown: Any = None
    for count, frame in enumerate(file.decode(stream)):
        if frame.time is None or count > 2 * SEQUENTIAL_FRAMES:  # the number of frames in the header was wrong
            continue
        taken = False
        while left and shown is not None and frame.time - start > left[0] + 1e-6:
            if not taken:
                yield shown
            taken = True
            left.pop(0)
        shown = frame
        if not left:
            return
    # The last frame is shown until the end of the video.
    if shown is not None and left and left[-1] - (shown.time - start) < 1 + 0.1 * times[-1]:
        yield shown
    elif left:
        raise CellError(f"cut short: no frame can be decoded at {left[0]:.1f} seconds of {times[-1]:.1f}")


def _read_by_seeking(file: Any, stream: Any, times: list[float]) -> Iterator[Any]:
    """Yield the frames shown at ``times``, or near them, each decoded from the key frame before it."""
    start = _start(stream)
    last = None
    for time in times:
        file.seek(int((time + start) / stream.time_base), stream=stream)
        shown: Any = None
        for count, frame in enumerate(file.decode(stream)):
            if frame.time is None or (shown is not None and frame.time - start > time + 1e-6) or count >= FRAMES_PER_SEEK:
                break
            shown = frame
        if shown is None:
            raise CellError(f"cut short: no frame can be decoded at {time:.0f} seconds")
        if shown.pts != last:
            yield shown
        last = shown.pts


def _turns(frame: Any) -> int:
    """Return the number of anticlockwise quarter turns to show a frame upright."""
    turns: int = round(frame.rotation / 90) % 4
    return turns


def _pixels(frame: Any, goal: tuple[int, int] | int) -> Array:
    """Return a frame ``[h, w, 3]`` uint8, upright, resized to fit into ``goal``."""
    turn = _turns(frame)
    wide, high = (frame.height, frame.width) if turn % 2 else (frame.width, frame.height)
    if isinstance(goal, int):
        ratio = min(1.0, goal / max(wide, high))
        height, width = max(1, round(high * ratio)), max(1, round(wide * ratio))
    else:
        height, width = inside((high, wide), goal)
    if turn % 2:
        height, width = width, height
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    pixels: Array = small.to_ndarray()
    return np.rot90(pixels, turn) if turn else pixels

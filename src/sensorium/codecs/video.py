"""Frames and sound tracks out of video files that may be anything."""

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
from sensorium.signal.running_moments import thinned

_CLOCK = re.compile(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d{1,9})?)$")

HOURS = 12
"""Videos that say they are longer are refused."""
PIXELS = 36 * 2**20
"""Videos of larger frames are refused before one is decoded (8K has 33 million)."""
STRAIGHT = 600
"""Videos of so many frames are decoded from the beginning; longer ones are sought in."""
AHEAD = 300
"""Frames decoded from a place that was sought, at most, before the one at hand is taken."""
LONGEST = 20_000
"""Frames decoded of a file that does not say how long it is."""


class Film(NamedTuple):
    """Frames of a video.

    Args:
        frames: ``[T, h, w, 3]`` uint8, upright.
        size: The height and width of the original.
        times: Seconds from the beginning at which each is shown ``[T]``.
    """

    frames: Array
    size: tuple[int, int]
    times: list[float]


def container(data: bytes) -> str:
    """The name of the container by its first bytes; empty where it is none that is read here.

    FFmpeg is told which one it is: left to guess it would also open play lists, and what they name.
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
    """Whether a video has a sound track. Raises ``CellError`` on what is no video."""
    with _opened(blob) as file:
        return bool(file.streams.audio)


def read_film(blob: Blob, most: int, rate: float | None, frame: tuple[int, int] | int) -> Film:
    """At most ``most`` frames: spread evenly over all of a video, or ``rate`` a second from its beginning.

    ``frame``: the height and width they are to stand in, or the longer side they may have. However long a video is, no more
    is decoded than ``STRAIGHT`` frames, or ``AHEAD`` for each frame wanted. Raises ``CellError`` on what is no whole video.
    """
    with _opened(blob) as file:
        if not file.streams.video:
            raise CellError("there is no picture in the file, only sound")
        stream = file.streams.video[0]
        wide, high = stream.codec_context.width, stream.codec_context.height
        if not 0 < wide * high <= PIXELS:
            problem = f"frames of {wide} × {high} pixels are none, or more than the {PIXELS / 2**20:.0f} million allowed"
            raise CellError(problem, fix="make it smaller")
        stream.codec_context.thread_count = 1  # cells are decoded in threads already
        duration = _duration(file, stream)
        if duration > HOURS * 3600:
            raise CellError(f"the header says {duration / 3600:.0f} hours, more than the {HOURS} allowed", fix="cut it")
        shown = 1 / float(stream.average_rate or 25)
        if duration <= 0:
            limit = thinned(zip(range(LONGEST), file.decode(stream), strict=False), 4 * most)
            found = [frame for _, frame in limit]
            found = [found[int((i + 0.5) * len(found) / most)] for i in range(most)] if len(found) > most else found
        else:
            times = wanted(duration, shown, most, rate)
            straight = duration / shown <= STRAIGHT
            found = list(_straight(file, stream, times) if straight else _sought(file, stream, times))
        if not found:
            raise CellError("no frame can be decoded")
        start = _start(stream)
        size = (wide, high) if _turns(found[0]) % 2 else (high, wide)
        frames = np.stack([_pixels(one, frame) for one in found])
        return Film(frames, size, [float(one.time or 0) - start for one in found])


def film_size(blob: Blob) -> tuple[float, int]:
    """Seconds of a video (or its sound track) and pixels of a frame, as its header tells; 0 where it does not."""
    try:
        with _opened(blob) as file:
            stream = next(iter(file.streams.video or file.streams.audio), None)
            if stream is None:
                return 0.0, 0
            context = stream.codec_context
            return _duration(file, stream), context.width * context.height if file.streams.video else 0
    except CellError:  # whoever reads it meets the same
        return 0.0, 0


def film_extent(blob: Blob) -> tuple[int, int]:
    """Height and width of a video's frames as they are shown: its first one is decoded to see how it is held."""
    with _opened(blob) as file:
        if not file.streams.video:
            raise CellError("there is no picture in the file, only sound")
        stream = file.streams.video[0]
        wide, high = stream.codec_context.width, stream.codec_context.height
        if not 0 < wide * high <= PIXELS:
            raise CellError(f"frames of {wide} × {high} pixels are none, or too large")
        stream.codec_context.thread_count = 1
        first = next(iter(file.decode(stream)), None)
        if first is None:
            raise CellError("no frame can be decoded")
        return (wide, high) if _turns(first) % 2 else (high, wide)


def wanted(duration: float, shown: float, most: int, rate: float | None) -> list[float]:
    """The times at which frames are taken: the middles of equal parts, or the beginnings of equal steps."""
    if rate is not None:
        return [i / rate for i in range(most) if i == 0 or i / rate < duration]
    count = max(1, min(most, round(duration / shown)))
    return [(i + 0.5) * duration / count for i in range(count)]


def read_track(blob: Blob, seconds: float) -> tuple[Array, int, float]:
    """The first ``seconds`` of a video's sound ``[T]`` float32 in ±1, mixed to one channel; its rate in Hz and full length.

    Time is counted from the first frame of the picture: sound that starts later has silence before it.
    """
    import av

    with _opened(blob) as file:
        if not file.streams.audio:
            raise CellError("the video has no sound track")
        stream = file.streams.audio[0]
        stream.codec_context.thread_count = 1
        rate = int(stream.codec_context.sample_rate)
        if not 100 <= rate <= 768_000:
            raise CellError(f"sound at {rate} Hz is no recording")
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
            raise CellError("there is no sound in the sound track")
        return to_unit(np.concatenate(parts)[:most], blob.name), rate, max(duration, min(got, most) / rate)


@contextmanager
def _opened(blob: Blob) -> Iterator[Any]:
    """The container, closed afterwards; whatever goes wrong in it is a ``CellError`` of this file."""
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
        _check_whole(blob.data, kind)
        with av.open(io.BytesIO(blob.data), format=kind) as file:
            yield file
    except CellError as error:
        raise CellError(error.problem, file=blob.name, fix=error.fix) from None
    except Exception as error:  # a hostile file can raise anything in a decoder, and must cost one cell only
        raise CellError(f"the video is damaged or cut short ({reason(error)})", file=blob.name) from None


def _check_whole(data: bytes, kind: str) -> None:
    """Refuse a file that its own outermost sizes say is cut off: decoders shorten it without a word."""
    ends = 0
    if kind == "mov":
        at = 0
        while at + 8 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if size == 1 and at + 16 <= len(data):
                size = int.from_bytes(data[at + 8 : at + 16], "big")
            if size < 8:  # 0: as far as the file goes
                break
            at += size
        ends = at
    elif kind == "avi":
        ends = 8 + int.from_bytes(data[4:8], "little")
    elif kind == "matroska":
        ends = _matroska_end(data)
    if ends > len(data):
        raise CellError(f"cut short: {len(data)} of {ends} bytes are there", fix="copy it again")


def _matroska_end(data: bytes) -> int:
    """Where the header says that a Matroska file ends; 0 where it does not say (a live recording)."""

    def size(at: int) -> tuple[int, int]:
        # The number of leading zeros of the first byte says how many bytes the number has (RFC 8794, § 4).
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
    """Seconds of a stream, by its own header or by that of the file; 0 where neither says."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska says it of the whole file, and of each stream in a tag.
    said = _CLOCK.match(stream.metadata.get("DURATION", ""))
    if said is not None:
        return int(said[1]) * 3600 + int(said[2]) * 60 + float(said[3])
    return file.duration / 1e6 if file.duration else 0.0


def _start(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time else 0.0


def _straight(file: Any, stream: Any, times: list[float]) -> Iterator[Any]:
    """The frames shown at ``times``, in one go from the beginning."""
    left, start = list(times), _start(stream)
    shown: Any = None
    for count, frame in enumerate(file.decode(stream)):
        if frame.time is None or count > 2 * STRAIGHT:  # the header was wrong about how many there are
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
    # The last frame is shown until the end.
    if shown is not None and left and left[-1] - (shown.time - start) < 1 + 0.1 * times[-1]:
        yield shown
    elif left:
        raise CellError(f"cut short: no frame can be decoded at {left[0]:.1f} seconds of {times[-1]:.1f}")


def _sought(file: Any, stream: Any, times: list[float]) -> Iterator[Any]:
    """The frames shown at ``times``, or near them: each sought by the nearest key frame before it."""
    start = _start(stream)
    last = None
    for time in times:
        file.seek(int((time + start) / stream.time_base), stream=stream)
        shown: Any = None
        for count, frame in enumerate(file.decode(stream)):
            if frame.time is None or (shown is not None and frame.time - start > time + 1e-6) or count >= AHEAD:
                break
            shown = frame
        if shown is None:
            raise CellError(f"cut short: no frame can be decoded at {time:.0f} seconds")
        if shown.pts != last:
            yield shown
        last = shown.pts


def _turns(frame: Any) -> int:
    """By how many quarter turns, against the clock, a frame is to be shown."""
    turns: int = round(frame.rotation / 90) % 4
    return turns


def _pixels(frame: Any, goal: tuple[int, int] | int) -> Array:
    """A frame ``[h, w, 3]`` uint8, upright, as large as it stands in ``goal``."""
    turn = _turns(frame)
    wide, high = (frame.height, frame.width) if turn % 2 else (frame.width, frame.height)
    if isinstance(goal, int):
        part = min(1.0, goal / max(wide, high))
        height, width = max(1, round(high * part)), max(1, round(wide * part))
    else:
        height, width = inside((high, wide), goal)
    if turn % 2:
        height, width = width, height
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    pixels: Array = small.to_ndarray()
    return np.rot90(pixels, turn) if turn else pixels

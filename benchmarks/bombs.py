"""Decompression bombs: small files that are huge once decoded, or claim to be."""

from __future__ import annotations

import io
import struct
import zlib


def huge_png(wide: int, high: int, *, depth: int = 16, colour: int = 6) -> bytes:
    """Return a PNG of zeros, about a thousandth of the size of its pixels. Colour 6 is RGBA, 0 is grey."""
    packed = zlib.compressobj(9)
    line = bytes(1 + wide * depth * {0: 1, 2: 3, 6: 4}[colour] // 8)
    data = b"".join(packed.compress(line) for _ in range(high)) + packed.flush()
    header = struct.pack(">IIBBBBB", wide, high, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(wide: int, high: int, *more: bytes) -> bytes:
    """Return a PNG that is truncated shortly after its header."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND", b"")


def texts() -> bytes:
    """Return a PNG with 60 compressed texts of a million characters each."""
    return png(9, 9, *[_chunk(b"zTXt", b"k%d\0\0" % i + zlib.compress(b"x" * 2**20, 9)) for i in range(60)])


def jpeg(wide: int, high: int) -> bytes:
    """Return a JPEG of 16 × 16 pixels whose header declares another size."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    data = file.getvalue()
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", high, wide) + data[at + 9 :]


def gif(wide: int, high: int) -> bytes:
    """Return a GIF of a few bytes whose header declares this size."""
    return (
        b"GIF89a"
        + struct.pack("<HH", wide, high)
        + b"\x80\0\0\0\0\0\xff\xff\xff,"
        + bytes(4)
        + struct.pack("<HHB", wide, high, 0)
        + b"\2\2\x4c\1\0;"
    )


def tiff(side: int) -> bytes:
    """Return a deflated TIFF of one strip, thousands of times as large as its file."""
    data = zlib.compress(bytes(side * side), 9)
    tags = [
        (256, side),
        (257, side),
        (258, 8),
        (259, 8),
        (262, 1),
        (273, 8 + 2 + 9 * 12 + 4),
        (277, 1),
        (278, side),
        (279, len(data)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4) + data


def flac(seconds: int) -> bytes:
    """Return a FLAC file of stereo silence."""
    import numpy as np
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros((48_000 * seconds, 2), np.int16), 48_000, format="FLAC")
    return file.getvalue()


def wav(size: int, channels: int = 1, rate: int = 16_000) -> bytes:
    """Return a WAV file with a header of the given values and 200 bytes of sound."""
    shape = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, 2 * rate * channels & 0xFFFFFFFF, 2 * channels & 0xFFFF, 16
    )
    return b"RIFF" + struct.pack("<I", 36) + b"WAVE" + shape + b"data" + struct.pack("<I", size) + bytes(200)

"""Images with damaged metadata are decoded without them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from sensorium.codecs.image import pixel_count, read_picture
from sensorium.codecs.png_repair import without_metadata
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def png(**options: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(PIXELS).save(file, "PNG", **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes, crc: int | None = None) -> bytes:
    check = zlib.crc32(name + content) if crc is None else crc
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def with_chunk(data: bytes, extra: bytes, *, first: bool) -> bytes:
    at = 33 if first else len(data) - 12  # after IHDR, or before IEND
    return data[:at] + extra + data[at:]


BOMB = zlib.compress(bytes(3 * 2**20))
EXTRA = {
    "damaged EXIF": chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xffrubbish"),
    "invalid EXIF": chunk(b"eXIf", b"\0\1\2"),
    "text that expands": chunk(b"zTXt", b"Comment\0\0" + BOMB),
    "a profile that expands": chunk(b"iCCP", b"icc\0\0" + BOMB),
    "invalid profile": chunk(b"iCCP", b"icc\0\0rubbish"),
    "wrong checksum": chunk(b"tEXt", b"Comment\0hello", crc=1),
    "invalid chunk name": chunk(b"\xff\xff\xff\xff", b"x"),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("extra", EXTRA)
def test_pixels_survive_damaged_metadata(extra: str, first: bool) -> None:
    blob = Blob(with_chunk(png(), EXTRA[extra], first=first), "a.png")
    pixels, size = read_picture(blob, 64)
    assert (pixels == PIXELS).all()
    assert size == (24, 32)
    assert pixel_count(blob) == 24 * 32


def test_valid_orientation_is_kept() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    rotated = read_picture(Blob(png(exif=exif), "a.png"), 64)[0]
    assert rotated.shape == (32, 24, 3)
    damaged = with_chunk(png(exif=exif), EXTRA["wrong checksum"], first=False)
    assert (read_picture(Blob(damaged, "a.png"), 64)[0] == rotated).all()


def test_damaged_pixels_are_still_refused() -> None:
    for data in (png()[:200], with_chunk(png()[:200], EXTRA["wrong checksum"], first=True)):
        with pytest.raises(CellError, match=r"a\.png"):
            read_picture(Blob(data, "a.png"), 64)


def test_damaged_exif_of_a_jpeg() -> None:
    file = io.BytesIO()
    Pillow.fromarray(PIXELS).save(file, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xffrubbish")
    assert read_picture(Blob(file.getvalue(), "a.jpg"), 64)[0].shape == (24, 32, 3)


def test_without_metadata() -> None:
    assert without_metadata(png()) is None
    assert without_metadata(b"GIF8") is None
    assert without_metadata(with_chunk(png(), EXTRA["wrong checksum"], first=True)) == png()
    assert without_metadata(png()[:50]) is None

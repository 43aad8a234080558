"""Cells and tables from untrusted sources: each loses its cell only, or is refused with a message, in bounded time and
memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bombs import huge_png
from benchmarks.hostile.case import Case
from sensorium.core.errors import CellError, SensoriumError
from sensorium.core.modality import Blob
from sensorium.core.registry import build
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.tables.table import Table
from sensorium.testing import samples

MUTATIONS = 40
"""Number of damaged copies of each medium in one case."""


def cases() -> Iterator[Case]:
    """Return the cases: media files, then cells with something other than a file, then tables."""
    yield from _bombs()
    yield from _mutated()
    yield from _cells()
    yield from _tables()


# ── media ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _met(kind: str, data: bytes, name: str) -> bool:
    """Return whether a cell of these bytes could be read; any exception but a ``CellError`` with a message is raised."""
    modality = build("modalities", kind)
    modality.fit(iter(samples.cells(kind)))
    try:
        array = np.asarray(modality.encode(Blob(data, name)))
    except CellError as error:
        if len(error.problem) < 6:
            raise AssertionError(f"the error is only {error.problem!r}") from None
        return False
    assert np.isfinite(array.astype(np.float64)).all(), "it is read as numbers that are not finite"
    return True


def _refused(kind: str, data: bytes, name: str, folder: Path) -> None:
    assert not _met(kind, data, name), "it was taken for a good one"


def _any(kind: str, data: bytes, name: str, folder: Path) -> None:
    _met(kind, data, name)


def _bombs() -> Iterator[Case]:
    """Return cases of headers that declare more data than the file holds or than fits into memory."""
    huge = huge_png(8000, 8000)
    pictures: dict[str, tuple[str, bytes]] = {
        "a png of 8000 × 8000 pixels, 16 bits": ("a.png", huge),
        "a png whose header promises 2³¹ pixels a side": ("a.png", _png_header(2**31 - 1, 2**31 - 1)),
        "a png of no width": ("a.png", _png_header(0, 10)),
        "a gif that promises 65535 × 65535": (
            "a.gif",
            b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + b"\0" * 40,
        ),
        "a bmp of minus two thousand million rows": (
            "a.bmp",
            b"BM"
            + struct.pack("<IHHI", 54, 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        ),
        "a tiff whose directory leads to itself": ("a.tif", b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0"),
        "a tiff whose directory lies beyond the end": ("a.tif", b"II*\0\xff\xff\xff\x7f"),
        "a jpeg of its first marker": ("a.jpg", b"\xff\xd8\xff\xe0"),
        "an svg with an entity that grows": (
            "a.svg",
            b'<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><svg>&b;</svg>',
        ),
        "an eps with a program": (
            "a.eps",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file quit\n",
        ),
        "nothing": ("a.png", b""),
        "a page of html": ("a.png", b"<html><body>404</body></html>"),
    }
    for what, (name, data) in pictures.items():
        meet = _any if data is huge else _refused
        yield Case(f"picture: {what}", partial(meet, "image", data, name), megabytes=900 if data is huge else 300)
    sounds: dict[str, tuple[str, bytes]] = {
        "a wav whose data promise 4 GB": ("a.wav", _wav_header(2**32 - 1, 8000, 1)),
        "a wav of 65535 channels": ("a.wav", _wav_header(100, 8000, 65535)),
        "a wav of no channel": ("a.wav", _wav_header(100, 8000, 0)),
        "a wav of 0 samples a second": ("a.wav", _wav_header(100, 0, 1)),
        "a wav of 4 GHz": ("a.wav", _wav_header(100, 2**32 - 1, 1)),
        "a flac of its first block": ("a.flac", b"fLaC\x80\0\0\x22" + b"\xff" * 34),
        "an ogg without a stream": ("a.ogg", b"OggS\0\x02" + b"\0" * 40),
        "an mp3 of silence in its header": ("a.mp3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + b"\0" * 100),
        "nothing": ("a.wav", b""),
        "text": ("a.wav", b"not a sound at all"),
    }
    for what, (name, data) in sounds.items():
        yield Case(f"sound: {what}", partial(_any if "4 GHz" in what else _refused, "audio", data, name), megabytes=400)
    arrays: dict[str, bytes] = {
        "an npy that promises 10¹² numbers": _npy_header((10**12,), "<f8"),
        "an npy of objects": _npy(np.array([{"a": 1}, None], dtype=object), pickled=True),
        "an npy of negative size": _npy_header((-5, 3), "<f4"),
        "an npy of a hundred axes": _npy_header((1,) * 100, "<f4"),
        "an npy with code in its header": b"\x93NUMPY\x01\0\x40\0"
        + b"{'descr': __import__('os').system('false')}".ljust(64),
        "an npy of numbers that are none": _npy(np.full((20, 2), np.nan, np.float32)),
        "an npy of infinity": _npy(np.full((20, 2), np.inf, np.float64)),
    }
    for what, data in arrays.items():
        yield Case(
            f"series: {what}", partial(_any if "numbers" in what else _refused, "series", data, "a.npy"), megabytes=300
        )
    films = {
        "an mp4 of its first box": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        "an mp4 whose box promises 2⁶³ bytes": b"\0\0\0\x01ftyp" + b"\x7f" + b"\xff" * 7 + b"mp42",
        "a play list that names a file of this machine": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        "a play list that names an address": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
        "an sdp that opens a port": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "a concat script": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "nothing": b"",
    }
    for what, data in films.items():
        yield Case(f"video: {what}", partial(_refused, "video", data, "a.mp4"), megabytes=400)


def _mutated() -> Iterator[Case]:
    """Return cases of media with changed, truncated and repeated bytes: each copy is read or raises ``CellError``."""
    good: dict[str, tuple[str, bytes]] = {
        "a.png": ("image", _picture("PNG")),
        "a.jpg": ("image", _picture("JPEG")),
        "a.gif": ("image", _picture("GIF")),
        "a.tif": ("image", _picture("TIFF")),
        "a.wav": ("audio", _sound("WAV")),
        "a.flac": ("audio", _sound("FLAC")),
        "a.npy": ("series", _npy(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))),
        "a.csv": ("series", b"x,y,z\n" + b"".join(b"%d,%d,%d\n" % (i, -i, i % 7) for i in range(50))),
    }
    for name, (kind, data) in good.items():
        for way in ("bytes changed", "cut off", "bytes put in"):
            yield Case(f"{name}: {MUTATIONS} copies with {way}", partial(_copies, kind, data, name, way), seconds=90)


def _copies(kind: str, data: bytes, name: str, way: str, folder: Path) -> None:
    draw = np.random.default_rng(len(way))
    assert _met(kind, data, name), "the good one is refused"
    for _ in range(MUTATIONS):
        changed = bytearray(data)
        if way == "cut off":
            changed = changed[: int(draw.integers(len(changed)))]
        else:
            for at in draw.integers(len(changed), size=4).tolist():
                if way == "bytes changed":
                    changed[at] = int(draw.integers(256))
                else:
                    changed[at:at] = draw.bytes(3)
        _met(kind, bytes(changed), name)


# ── what stands in a cell ──────────────────────────────────────────────────────────────────────────────────────────────


def _cells() -> Iterator[Case]:
    names: dict[str, Callable[[Path], str]] = {
        "a pipe that nobody writes to": lambda f: _made(os.mkfifo, f / "pipe.png"),
        "a device": lambda f: "/dev/zero",
        "a folder upwards": lambda f: "../../../../../../etc/passwd",
        "an absolute path": lambda f: "/etc/passwd",
        "a link out of the folder": lambda f: _made(lambda p: p.symlink_to("/etc/passwd"), f / "link.png"),
        "a link to itself": lambda f: _made(lambda p: p.symlink_to(p), f / "loop.png"),
        "a name with a zero": lambda f: "a\0.png",
        "a name with line breaks": lambda f: "a\n\r\n.png",
        "a name of a hundred thousand letters": lambda f: "a" * 100_000,
        "an address": lambda f: "http://127.0.0.1:9/a.png",
        "a file address": lambda f: "file:///etc/passwd",
        "a lone surrogate": lambda f: "\ud800.png",
        "a sparse file of 600 MB": lambda f: _made(lambda p: os.truncate(p, 600 << 20), f / "sparse.png", touch=True),
    }
    for what, make in names.items():
        yield Case(f"cell: {what}", partial(_not_opened, make), seconds=10, megabytes=100)


def _made(make: Callable[[Path], Any], path: Path, *, touch: bool = False) -> str:
    if touch:
        path.touch()
    make(path)
    return path.name


def _not_opened(make: Callable[[Path], str], folder: Path) -> None:
    cell = make(folder)
    try:
        opened = LocalFiles(folder).open(cell, row=1, column="photo")
    except CellError as error:
        if (error.row, error.column) != (1, "photo"):
            raise AssertionError("the error names another row or column") from None
    else:
        raise AssertionError(f"it was opened: {str(opened)[:80]}")


# ── tables ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tables() -> Iterator[Case]:
    deep = b"[" * 100_000
    tables: dict[str, tuple[str, Callable[[], bytes]]] = {
        "csv of 300 MB of zeros": ("a.csv", lambda: b"a,b\n" + b"\0" * (300 << 20)),
        "csv of one line of 300 MB": ("a.csv", lambda: b"a,b\n" + b"x" * (300 << 20)),
        "csv with a quote that never ends": ("a.csv", lambda: b'a,b\n"' + b"x,y\n" * (30 << 20)),
        "csv of a million columns": ("a.csv", lambda: b",".join(b"c%d" % i for i in range(1_000_000)) + b"\n1\n"),
        "csv that is a zip": ("a.csv", _zip_bomb),
        "csv of UTF-16 with half a letter": ("a.csv", lambda: b"\xff\xfea\0,\0b\0\n\0\x00\xd8"),
        "jsonl of one line of 300 MB": ("a.jsonl", lambda: b'{"a": "' + b"x" * (300 << 20)),
        "jsonl as deep as a well": ("a.jsonl", lambda: deep),
        "jsonl with a number of a million digits": ("a.jsonl", lambda: b'{"a": ' + b"9" * 1_000_000 + b"}\n"),
        "jsonl with a key twice": ("a.jsonl", lambda: b'{"a": 1, "a": 2}\n'),
        "jsonl with NaN for a row": ("a.jsonl", lambda: b"NaN\n"),
        "json as deep as a well": ("a.json", lambda: deep),
        "gzip of 2 GB of nothing": ("a.csv.gz", partial(_gzip_bomb, 2 << 30)),
        "gzip that is cut off": ("a.csv.gz", lambda: gzip.compress(b"a,b\n1,2\n" * 1000)[:-40]),
        "parquet of its first and last word": ("a.parquet", lambda: b"PAR1" + b"\0" * 20 + b"PAR1"),
        "parquet whose footer promises 2 GB": ("a.parquet", lambda: b"PAR1" + struct.pack("<I", 2**31 - 1) + b"PAR1"),
        "xlsx that is a zip bomb": ("a.xlsx", _zip_bomb),
        "xlsx that is no zip": ("a.xlsx", lambda: b"PK\x03\x04" + b"\0" * 50),
        "xlsx with an entity of the system": ("a.xlsx", _xlsx_entity),
        "a table of nothing": ("a.csv", lambda: b""),
        "a table of a lone byte-order mark": ("a.csv", lambda: b"\xef\xbb\xbf"),
        "tar with a member that leads upwards": ("a.tar", partial(_tar, "../../evil.txt")),
        "tar with a key twice": ("a.tar", _tar_twice),
        "tar that is cut off": ("a.tar", lambda: _tar("0.txt")[:600]),
    }
    for what, (name, make) in tables.items():
        yield Case(f"table: {what}", partial(_table, name, make), seconds=60, megabytes=1500)


def _table(name: str, make: Callable[[], bytes], folder: Path) -> None:
    path = folder / name
    path.write_bytes(make())
    try:
        table = Table.read(path)
        for column in table.columns[:50]:
            list(table.column(column)[:100])
    except SensoriumError as error:
        message = str(error)
        assert len(message) < 5000, f"a message of {len(message):,} letters"
        assert "Traceback" not in message, message
    assert sorted(p.name for p in folder.iterdir()) == [name], "other files were written"
    assert not (folder.parent / "evil.txt").exists(), "a file was written outside"


# ── made by hand ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _picture(form: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file, form)
    return file.getvalue()


def _sound(form: str) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 4000), 8000, format=form)
    return file.getvalue()


def _png_header(width: int, height: int) -> bytes:
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def _wav_header(size: int, rate: int, channels: int) -> bytes:
    width = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, min(rate * width, 2**32 - 1), width % 65536, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 2**32 - 1)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", size)
    )


def _npy(array: np.ndarray[Any, Any], *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickled)
    return file.getvalue()


def _npy_header(shape: tuple[int, ...], kind: str) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(-(-(len(text) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


def _gzip_bomb(size: int) -> bytes:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        for _ in range(size >> 24):
            packed.write(b"\0" * (1 << 24))
    return file.getvalue()


def _zip_bomb() -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
        packed.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet,
    ):
        for _ in range(64):
            sheet.write(b" " * (1 << 24))
    return file.getvalue()


def _xlsx_entity() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("[Content_Types].xml", '<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]><Types>&x;</Types>')
    return file.getvalue()


def _tar(name: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        data = json.dumps({"a": 1}).encode()
        member = tarfile.TarInfo(name)
        member.size = len(data)
        packed.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _tar_twice() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for data in (b"one", b"two"):
            member = tarfile.TarInfo("0.txt")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return file.getvalue()

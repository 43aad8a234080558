"""Decoding of table text: UTF-8, UTF-16, UTF-32, or Windows-1252 as older Western programs write it."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, TypeVar

from sensorium.core.errors import DataError
from sensorium.data.tables.compressed import open_decompressed

Parsed = TypeVar("Parsed")
AddNote = Callable[[str], None]
"""Receives a note to the user on how a table was read."""

WESTERN = "cp1252"
LINE_LIMIT = 256 * 2**20
"""Most characters in a line."""

_CHUNK = 2**20
_SCANNED_BYTES = 64 * 2**20
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ZEROS = 0.25
"""Least share of zeros in every second byte of UTF-16; Chinese text reaches it through its commas, digits and line ends."""
_HIGH = re.compile(rb"[\x80-\xff]+")
# Letters and punctuation of Western European text in Windows-1252; other bytes are rare there and common elsewhere.
_USUAL = frozenset([0x80, 0x85, 0x8A, 0x8C, 0x8E, *range(0x91, 0x98), 0x99, 0x9A, 0x9C, 0x9E, *range(0xA0, 0xFF)])


def read_text(
    path: Path, parse: Callable[[TextIO], Parsed], add_note: AddNote, undecodable: Callable[[], DataError]
) -> Parsed:
    """Decode a file and return the result of ``parse``.

    Text that is not UTF-8 but looks like Western European text is read as Windows-1252, with a note.

    Args:
        path: The file.
        parse: Reads the decoded text.
        add_note: Receives the note.
        undecodable: Makes the error for text of another encoding.
    """
    try:
        with text(path) as file:
            return parse(file)
    except UnicodeDecodeError:
        if not _is_western(path):
            raise undecodable() from None
    add_note(f"{path} is not UTF-8: read as Western European text (Windows-1252); save it as UTF-8 if letters look wrong")
    with text(path, WESTERN) as file:
        return parse(file)


@contextmanager
def text(path: Path, encoding: str | None = None, errors: str = "strict") -> Iterator[TextIO]:
    """Context manager: open the text of a file with its line ends unchanged.

    Args:
        path: The file, which may be compressed.
        encoding: Its encoding; by default detected from its first bytes, else UTF-8.
        errors: The error handler of the decoder.
    """
    with open_decompressed(path) as file:
        head = file.peek(1024)[:1024] if isinstance(file, io.BufferedReader) else b""
        with io.TextIOWrapper(file, encoding or encoding_of(head), errors, newline="") as wrapped:
            yield wrapped


def encoding_of(head: bytes) -> str:
    """Detect the encoding from ``head``, a file's first bytes: by byte-order mark or the pattern of zeros; else UTF-8."""
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    even, odd = head[0::2], head[1::2]
    if len(odd) >= 4:
        if odd.count(0) > _ZEROS * len(odd) and not even.count(0):
            return "utf-16-le"
        if even.count(0) > _ZEROS * len(even) and not odd.count(0):
            return "utf-16-be"
    return "utf-8"


def lines(file: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines of a text with their ends, in bounded memory.

    Args:
        file: The text.
        path: Names the file in errors.

    Raises:
        DataError: A zero byte, or a line of more than ``LINE_LIMIT`` characters.
    """
    for count in range(1, 2**63):
        line = piece = file.readline(_CHUNK)
        if not line:
            return
        parts = [line]
        size = 0
        while len(piece) == _CHUNK and not piece.endswith("\n"):
            _check(piece, count, size := size + len(piece), path)
            parts.append(piece := file.readline(_CHUNK))
        if len(parts) > 1:
            line = "".join(parts)
        _check(piece, count, len(line), path)
        yield line


def _check(piece: str, count: int, size: int, path: Path) -> None:
    if "\0" in piece:
        fix = "copy or export the file again: it was cut off, or it is of another format"
        raise DataError(f"line {count} holds zero bytes: this is not text", file=path, fix=fix)
    if size > LINE_LIMIT:
        raise DataError(f"line {count} has more than {LINE_LIMIT // 2**20} million characters", file=path)


def is_escaped(character: str) -> bool:
    """Return whether a ``character`` read with ``surrogateescape`` stands for an undecodable byte."""
    return "\udc80" <= character <= "\udcff"


def _is_western(path: Path) -> bool:
    """Whether bytes that are not UTF-8 are Western European text in a single-byte encoding.

    Its accented letters mostly stand alone, where other scripts and multi-byte encodings have runs of high bytes. Few of
    its runs are valid UTF-8, where a file that mixes two encodings has many.
    """
    runs = isolated = unicode = 0
    with open_decompressed(path) as file:
        for run in _high_runs(file):
            if not _USUAL.issuperset(run):
                return False
            runs += 1
            isolated += len(run) == 1
            unicode += len(run) > 1 and _is_unicode(run)
    return runs > 0 and isolated >= 0.8 * runs and unicode <= 0.02 * runs


def _high_runs(file: IO[bytes]) -> Iterator[bytes]:
    left, scanned = b"", 0
    while scanned < _SCANNED_BYTES and (data := file.read(_CHUNK)):
        scanned += len(data)
        data = left + data
        # A run at the end may continue in the next chunk.
        end = len(data) if data[-1] < 0x80 else len(data.rstrip(bytes(range(0x80, 0x100))))
        yield from _HIGH.findall(data[:end])
        left = data[end:]
    if left:
        yield left


def _is_unicode(run: bytes) -> bool:
    try:
        run.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True

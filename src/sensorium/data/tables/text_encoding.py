"""Text out of the bytes of a table: in UTF-8, UTF-16, UTF-32, or as older Western programs write it."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, TypeVar

from sensorium.core.errors import DataError
from sensorium.data.tables.compressed import opened

Found = TypeVar("Found")
Tell = Callable[[str], None]
"""Is told what a user should know of how a table was read."""

WESTERN = "cp1252"
LINE_LIMIT = 256 * 2**20
"""Characters in one line. More is no table."""

_PIECE = 2**20
_LOOKED_AT = 64 * 2**20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ZEROS = 0.25
"""Share of zeros in every second byte of UTF-16: of Chinese with its commas, digits and line ends still so many."""
_HIGH = re.compile(rb"[\x80-\xff]+")
# Letters and marks of Western European text in Windows-1252: what is left out is rare in it, and common elsewhere.
_USUAL = frozenset([0x80, 0x85, 0x8A, 0x8C, 0x8E, *range(0x91, 0x98), 0x99, 0x9A, 0x9C, 0x9E, *range(0xA0, 0xFF)])


def read_text(path: Path, parse: Callable[[TextIO], Found], tell: Tell, bad: Callable[[], DataError]) -> Found:
    """What ``parse`` makes of a file's text.

    Text that is not UTF-8 and looks like that of older Western programs is read as Windows-1252, which is told; ``bad``
    makes the error for any other.
    """
    try:
        with text(path) as file:
            return parse(file)
    except UnicodeDecodeError:
        if not _is_western(path):
            raise bad() from None
    tell(f"{path} is not UTF-8: read as Western European text (Windows-1252); save it as UTF-8 if letters look wrong")
    with text(path, WESTERN) as file:
        return parse(file)


@contextmanager
def text(path: Path, encoding: str | None = None, errors: str = "strict") -> Iterator[TextIO]:
    """A file's text with its line ends as they are; without ``encoding``, in that which its first bytes tell, or UTF-8."""
    with opened(path) as file:
        head = file.peek(1024)[:1024] if isinstance(file, io.BufferedReader) else b""
        with io.TextIOWrapper(file, encoding or encoding_of(head), errors, newline="") as wrapped:
            yield wrapped


def encoding_of(head: bytes) -> str:
    """The encoding that the first bytes of a file tell: by their mark, or by how zeros stand among them; else UTF-8."""
    for mark, name in _MARKS:
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
    """The lines of a text with their ends; memory is bounded though one never ends, and a zero byte is no text."""
    for count in range(1, 2**63):
        line = piece = file.readline(_PIECE)
        if not line:
            return
        parts = [line]
        size = 0
        while len(piece) == _PIECE and not piece.endswith("\n"):
            _check(piece, count, size := size + len(piece), path)
            parts.append(piece := file.readline(_PIECE))
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
    """Whether a character read with ``surrogateescape`` stands for a byte that could not be read."""
    return "\udc80" <= character <= "\udcff"


def _is_western(path: Path) -> bool:
    """Whether bytes that are not UTF-8 are Western European text of one byte a character.

    Its accented letters mostly stand alone among plain ones, where other scripts and multi-byte encodings have runs of
    high bytes; and hardly any of them happens to be UTF-8, where a file put together of two encodings has many.
    """
    runs = alone = unicode = 0
    with opened(path) as file:
        for run in _high(file):
            if not _USUAL.issuperset(run):
                return False
            runs += 1
            alone += len(run) == 1
            unicode += len(run) > 1 and _is_unicode(run)
    return runs > 0 and alone >= 0.8 * runs and unicode <= 0.02 * runs


def _high(file: IO[bytes]) -> Iterator[bytes]:
    left, looked = b"", 0
    while looked < _LOOKED_AT and (data := file.read(_PIECE)):
        looked += len(data)
        data = left + data
        # A run at the end may go on in what comes next.
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

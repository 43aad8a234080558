"""Files of tables as bytes: plain, or compressed by gzip, bzip2, xz or zip; what is expanded is bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sensorium.core.errors import DataError

COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
EXPANDED = 8 * 2**30
"""Bytes that a compressed table may expand to, however large it is."""
RATIO, SMALL = 100, 256 * 2**20
"""A table rarely shrinks to less than a hundredth; what expands to more than that, and is not small, is refused."""

_BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, RuntimeError, NotImplementedError)


def inner_suffix(path: Path) -> str:
    """The ending that tells the format: ``.csv`` of ``a.csv``, of ``a.csv.gz`` and of a zip file that holds ``a.csv``."""
    last = path.suffix.lower()
    if last not in COMPRESSED:
        return last
    inner = Path(path.stem).suffix.lower()
    if last == ".zip" and not inner and path.is_file():
        with _zipped(path) as archive:
            return Path(_only(archive, path).filename).suffix.lower()
    return inner


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, expanded where its ending says that it is compressed."""
    last = path.suffix.lower()
    if last not in COMPRESSED:
        with path.open("rb") as file:
            yield file
        return
    if last == ".zip":
        with _zipped(path) as archive, _member(archive, path) as member:
            yield io.BufferedReader(_Bounded(member, path))
        return
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    with openers[last](path, "rb") as file:
        yield io.BufferedReader(_Bounded(file, path))


@contextmanager
def _zipped(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise _damaged(path, error) from None
    with archive:
        yield archive


def _only(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    files = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
    if len(files) != 1:
        names = ", ".join(info.filename for info in files[:5])
        raise DataError(f"holds {len(files)} files, not one table", file=path, fix=f"unzip it and name one ({names})")
    return files[0]


def _member(archive: zipfile.ZipFile, path: Path) -> IO[bytes]:
    try:
        return archive.open(_only(archive, path))
    except _BROKEN as error:  # among them: a password is needed, a method is unknown
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot be expanded: {error}", file=path, fix="compress it again, or expand it by hand")


class _Bounded(io.RawIOBase):
    """Expanded bytes, up to what a table of this size may expand to."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._left = min(EXPANDED, max(SMALL, RATIO * path.stat().st_size))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except _BROKEN as error:
            raise _damaged(self._path, error) from None
        self._left -= len(data)
        if self._left < 0:
            problem = "expands to far more than a table of its size"
            raise DataError(problem, file=self._path, fix="if it is meant to, expand it by hand and name the result")
        buffer[: len(data)] = data
        return len(data)

"""Table files as bytes, decompressed from gzip, bzip2, xz or zip, with a bound on the expanded size."""

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
"""Most bytes that a compressed table may expand to."""
RATIO, SMALL = 100, 256 * 2**20
"""A table that expands by more than ``RATIO`` and to more than ``SMALL`` bytes is refused."""

_BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, RuntimeError, NotImplementedError)


def inner_suffix(path: Path) -> str:
    """Return the suffix of ``path`` without compression: ``.csv`` of ``a.csv``, ``a.csv.gz`` or a zip file of ``a.csv``."""
    suffix = path.suffix.lower()
    if suffix not in COMPRESSED:
        return suffix
    inner = Path(path.stem).suffix.lower()
    if suffix == ".zip" and not inner and path.is_file():
        with _zipped(path) as archive:
            return Path(_only(archive, path).filename).suffix.lower()
    return inner


@contextmanager
def open_decompressed(path: Path) -> Iterator[IO[bytes]]:
    """Context manager: open ``path`` for reading bytes, decompressed according to its suffix."""
    suffix = path.suffix.lower()
    if suffix not in COMPRESSED:
        with path.open("rb") as file:
            yield file
        return
    if suffix == ".zip":
        with _zipped(path) as archive, _member(archive, path) as member:
            yield io.BufferedReader(_Bounded(member, path))
        return
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    with openers[suffix](path, "rb") as file:
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
    except _BROKEN as error:  # includes encrypted members and unknown methods
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot be expanded: {error}", file=path, fix="compress it again, or expand it by hand")


class _Bounded(io.RawIOBase):
    """A raw stream of decompressed bytes, limited in proportion to the file's size."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._remaining = min(EXPANDED, max(SMALL, RATIO * path.stat().st_size))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except _BROKEN as error:
            raise _damaged(self._path, error) from None
        self._remaining -= len(data)
        if self._remaining < 0:
            problem = "expands to far more than is plausible for a table of its size"
            raise DataError(problem, file=self._path, fix="if it is meant to, expand it by hand and name the result")
        buffer[: len(data)] = data
        return len(data)

"""Whether what lies in the cache is what was put there: checksums of arrays, and files that are no links elsewhere."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sensorium.core.errors import SensoriumError

FORMAT = 2
"""Of a shelf's files; shelves of another format lie in other folders."""
FILES = ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "index.sqlite-journal", "values.bin", "turn")
"""Everything that a shelf writes."""

_PASSING = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""What SQLite says of the disk, of permissions or of other processes, and not of what is in the index."""


def checksum(key: bytes, length: int, problem: str | None, data: Any) -> int:
    """CRC-32 of an entry of the index and of the array that it stands for, so that damage to either is noticed.

    It finds every flipped bit and misses one in four billion larger changes. It is no defence against forgery.
    """
    head = key + length.to_bytes(8, "little", signed=True)
    if problem is not None:
        head += b"\1" + problem.encode("utf-8", "surrogatepass")
    return zlib.crc32(data, zlib.crc32(head))


def extent_checksum(size: int) -> int:
    """CRC-32 of where the last array ends: new ones written before that would overwrite others."""
    return zlib.crc32(str(size).encode())


def is_damage(error: Exception) -> bool:
    """Whether SQLite complains of the content of the index."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in _PASSING


@contextlib.contextmanager
def spoken() -> Iterator[None]:
    """SQLite's complaints quote damaged bytes, which Python cannot always read: that is damage like any other."""
    try:
        yield
    except UnicodeDecodeError:
        raise sqlite3.DatabaseError("the index holds bytes that are no text") from None


def refuse_links(folder: Path) -> None:
    """Raise where a file of a shelf is a link, a pipe or a device: writing to it would write somewhere else."""
    if folder.is_symlink():
        fix = "remove the link, not what it leads to; or name another folder: --cache or SENSORIUM_CACHE"
        raise SensoriumError("a folder of the cache is a symbolic link", file=folder, fix=fix)
    for name in FILES:
        try:
            found = os.lstat(folder / name)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise SensoriumError(
                "a file of the cache is a link, or no plain file: nothing was written to it",
                file=folder / name,
                fix="remove it, not what it leads to; or name another folder: --cache or SENSORIUM_CACHE",
            )


def open_here(path: str, flags: int) -> int:
    """An opener that follows no symbolic link where the system can be told so."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

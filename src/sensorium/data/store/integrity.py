"""Integrity of the cache: checksums of its entries, and refusal of links in place of its files."""

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
"""Version of the cache's file format; it is part of the key that names a cache folder."""
FILES = ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "index.sqlite-journal", "values.bin", "turn")
"""Every file that a cache writes."""

_ENVIRONMENT_ERRORS = frozenset(
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
"""SQLite error codes that concern the disk, permissions or other processes, not the content of the index."""


def checksum(key: bytes, length: int, problem: str | None, data: Any) -> int:
    """Return the CRC-32 of an index entry together with its array, so that damage to either is noticed.

    It detects every single flipped bit and misses one in four billion larger changes. It is no defence against forgery.

    Args:
        key: The content digest.
        length: Steps of the array.
        problem: Why the cell cannot be used; None where it can.
        data: The bytes of the array.
    """
    head = key + length.to_bytes(8, "little", signed=True)
    if problem is not None:
        head += b"\1" + problem.encode("utf-8", "surrogatepass")
    return zlib.crc32(data, zlib.crc32(head))


def extent_checksum(size: int) -> int:
    """Return the CRC-32 of ``size``, the end of the last array: an end that is too small would overwrite arrays."""
    return zlib.crc32(str(size).encode())


def is_damage(error: Exception) -> bool:
    """Return whether ``error`` is SQLite's complaint about the content of the index, not about disk or permissions."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in _ENVIRONMENT_ERRORS


@contextlib.contextmanager
def decode_errors_as_damage() -> Iterator[None]:
    """Context manager: raise ``sqlite3.DatabaseError`` where SQLite's message quotes damaged bytes that are not text."""
    try:
        yield
    except UnicodeDecodeError:
        raise sqlite3.DatabaseError("the index holds bytes that are not text") from None


def refuse_links(folder: Path) -> None:
    """Raise ``SensoriumError`` where ``folder`` or a cache file in it is a link, pipe or device."""
    if folder.is_symlink():
        fix = "remove the link, not its target; or name another folder: --cache or SENSORIUM_CACHE"
        raise SensoriumError("a folder of the cache is a symbolic link", file=folder, fix=fix)
    for name in FILES:
        try:
            status = os.lstat(folder / name)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise SensoriumError(
                "a file of the cache is a link or not a regular file: nothing was written to it",
                file=folder / name,
                fix="remove it, not its target; or name another folder: --cache or SENSORIUM_CACHE",
            )


def open_nofollow(path: str, flags: int) -> int:
    """Open ``path`` with ``flags``, an ``opener`` for ``open`` that follows no symbolic link where the system allows it."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

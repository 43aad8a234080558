"""Safe reading of files of unknown type: only regular files of limited size, without blocking."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def read_regular(path: Path, most: int, *, links: bool = False) -> bytes:
    """Return the bytes of the regular file at ``path``. Raises ``OSError`` for pipes, folders and more than ``most`` bytes.

    Never blocks on a pipe. ``links``: whether a symbolic link to a regular file is accepted.
    """
    handle = open_regular(path, links=links)
    with os.fdopen(handle, "rb") as file:
        size = os.fstat(handle).st_size
        if size > most:
            raise OSError(0, f"it has {size:,} bytes, and {most:,} are read at most")
        # One byte more than it says, so that a file that grows meanwhile is not taken for whole.
        data = file.read(size + 1)
    if len(data) != size:
        raise OSError(0, "its size changed while it was read")
    return data


def open_regular(path: Path, *, links: bool = False) -> int:
    """Return a descriptor of the regular file at ``path``; ``links`` as in ``read_regular``."""
    if not links and path.is_symlink():
        raise OSError(0, "it is a symbolic link")
    if not stat.S_ISREG(path.stat().st_mode):  # asked first, for merely opening a device may do something
        raise OSError(0, "it is no regular file")
    handle = os.open(path, os.O_RDONLY | _NO_WAITING | (0 if links else getattr(os, "O_NOFOLLOW", 0)))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(0, "it is no regular file")
    return handle

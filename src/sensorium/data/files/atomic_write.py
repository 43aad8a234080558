"""Files that are written whole or not at all, and what is said where a disk does not take them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from sensorium.core.errors import SensoriumError

FULL = (errno.ENOSPC, errno.EDQUOT)


def write(path: Path, data: bytes) -> None:
    """All of a file or nothing of it: what was there stays until the new one is safe on the disk."""
    write_together(path.parent, {path.name: data})


def write_together(folder: Path, files: Mapping[str, bytes], last: str | None = None) -> None:
    """Files that belong together: all are on the disk before the first takes its place, so a full disk changes nothing.

    Args:
        last: The one of them that vouches for the others: the old one goes first, the new one comes when all are there.
    """
    parts = {name: part_of(folder / name) for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            with open(parts[name], "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if last is not None:
            (folder / last).unlink(missing_ok=True)
        for name in sorted(files, key=lambda name: name == last):
            os.replace(parts[name], folder / name)
        settle(folder)
    except OSError as error:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        raise unwritable(error, folder) from None


def part_of(path: Path) -> Path:
    """Where a file is written before it takes its place. Only one process at a time may write it."""
    return path.with_name(f".{path.name}.part")


def settle(folder: Path) -> None:
    """Make the system keep the names of a folder too, where it can be asked to."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written before any work is done for it. Leaves nothing behind."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    write(folder / ".writable", b"")
    (folder / ".writable").unlink(missing_ok=True)
    for path in missing:
        with contextlib.suppress(OSError):  # something was put there meanwhile
            path.rmdir()


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """What the system says of a file in this folder, said as an error that names the folder and how to mend it."""
    try:
        yield
    except OSError as error:
        raise unwritable(error, folder) from None


def unwritable(error: OSError, folder: Path) -> SensoriumError:
    """The error for a folder that did not take a file."""
    if error.errno in FULL:
        return SensoriumError(
            "the disk is full",
            file=folder,
            fix="make room, or name another folder; what was written before is whole, and --resume goes on from it",
        )
    why = error.strerror or error
    return SensoriumError(f"cannot be written: {why}", file=folder, fix="name another folder with --out")

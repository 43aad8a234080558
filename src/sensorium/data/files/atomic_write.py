"""Atomic writes of files, and errors for disks that refuse them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from sensorium.core.errors import SensoriumError

FULL = (errno.ENOSPC, errno.EDQUOT)


def write(path: Path, data: bytes) -> None:
    """Replace the file at ``path`` by ``data`` atomically: the old content stays until the new is safely on disk."""
    write_together(path.parent, {path.name: data})


def write_together(folder: Path, files: Mapping[str, bytes], last: str | None = None) -> None:
    """Write ``files`` (name to content) to ``folder`` as a group: all are on disk before the first replaces an old one.

    Raises ``SensoriumError`` and changes nothing where the disk is full or the folder cannot be written.

    Args:
        folder: Made if need be.
        files: Content by file name.
        last: The file that marks the group as complete: removed before the others are replaced, and written after them.
    """
    parts = {name: partial_path(folder / name) for name in files}
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
        sync_folder(folder)
    except OSError as error:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        raise unwritable(error, folder) from None


def partial_path(path: Path) -> Path:
    """Return the temporary name under which the file at ``path`` is written. Only one process at a time may use it."""
    return path.with_name(f".{path.name}.part")


def sync_folder(folder: Path) -> None:
    """Flush the directory entries of ``folder`` to disk, where the system supports it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Raise ``SensoriumError`` where ``folder`` cannot be written; leaves nothing behind."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    write(folder / ".writable", b"")
    (folder / ".writable").unlink(missing_ok=True)
    for path in missing:
        with contextlib.suppress(OSError):  # no longer empty: another process wrote to it
            path.rmdir()


@contextlib.contextmanager
def readable_disk_errors(folder: Path) -> Iterator[None]:
    """Context manager: turn an ``OSError`` into a ``SensoriumError`` that names ``folder`` and the remedy."""
    try:
        yield
    except OSError as error:
        raise unwritable(error, folder) from None


def unwritable(error: OSError, folder: Path) -> SensoriumError:
    """Return the ``SensoriumError`` for the ``OSError`` ``error`` of a write to ``folder``."""
    if error.errno in FULL:
        return SensoriumError(
            "the disk is full",
            file=folder,
            fix="make room, or name another folder; what was written before is complete, and --resume continues from it",
        )
    why = error.strerror or error
    return SensoriumError(f"cannot be written: {why}", file=folder, fix="name another folder with --out")

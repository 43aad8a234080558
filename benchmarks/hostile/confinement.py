"""A folder that code must not leave: what it opens, writes or asks of the network is watched."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sensorium.core.errors import SensoriumError

_WATCHED: list[tuple[Path, list[str]]] = []
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.system", "os.exec")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _WATCHED:
        return
    folder, seen = _WATCHED[-1]
    if event in _NETWORK:
        seen.append(event)
        raise AssertionError(f"{event} was called")
    if event == "open" and isinstance(args[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(args[0]))
        writes = isinstance(args[2], int) and args[2] & _WRITES
        if writes and not path.startswith((str(folder), "/dev/", "/proc/")) and not path.endswith((".pyc", ".lock")):
            seen.append(f"{path} was written")
        if f"{os.sep}elsewhere{os.sep}" in path and path.startswith(str(folder)):
            seen.append(f"{path} was opened")


_hooked: list[bool] = []


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within it nothing is asked of the network, written outside ``folder``, or read in ``folder/elsewhere``."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    seen: list[str] = []
    _WATCHED.append((folder, seen))
    try:
        yield
    finally:
        _WATCHED.pop()
    assert not seen, "; ".join(seen[:3])


def check_message(error: SensoriumError) -> None:
    """An error that a person can read: a sentence, not pages of it."""
    message = str(error)
    assert 15 <= len(message) <= 2500, f"the refusal has {len(message)} characters"
    assert " " in error.problem, f"the refusal is no sentence: {error.problem}"
    assert "Traceback" not in message

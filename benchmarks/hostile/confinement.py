"""Confinement of code to a folder, checked by auditing the files it opens and writes and its use of the network."""

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
    folder, violations = _WATCHED[-1]
    if event in _NETWORK:
        violations.append(event)
        raise AssertionError(f"{event} was called")
    if event == "open" and isinstance(args[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(args[0]))
        writes = isinstance(args[2], int) and args[2] & _WRITES
        if writes and not path.startswith((str(folder), "/dev/", "/proc/")) and not path.endswith((".pyc", ".lock")):
            violations.append(f"{path} was written")
        if f"{os.sep}elsewhere{os.sep}" in path and path.startswith(str(folder)):
            violations.append(f"{path} was opened")


_hooked: list[bool] = []


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Check that the block uses no network, writes nothing outside ``folder`` and reads nothing in ``folder/elsewhere``."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    violations: list[str] = []
    _WATCHED.append((folder, violations))
    try:
        yield
    finally:
        _WATCHED.pop()
    assert not violations, "; ".join(violations[:3])


def check_message(error: SensoriumError) -> None:
    """Check that the message of an error is readable: a sentence, of at most 2,500 characters."""
    message = str(error)
    assert 15 <= len(message) <= 2500, f"the refusal has {len(message)} characters"
    assert " " in error.problem, f"the refusal is no sentence: {error.problem}"
    assert "Traceback" not in message

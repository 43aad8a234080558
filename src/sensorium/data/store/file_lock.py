"""A lock between processes: of several that would fill the same cache, one decodes and the others wait for it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sensorium.data.store.integrity import open_nofollow

if sys.platform != "win32":
    import fcntl

POLL_SECONDS = 0.1
"""Seconds between two attempts to get the lock."""


class FileLock:
    """A lazily acquired exclusive lock between processes; threads of one process share it. Use it in a ``with`` statement.

    The operating system releases it where its holder is killed. On a file system without locks (and on Windows) every
    process gets it at once.

    Args:
        path: The lock file, created on first use.
        waiting: Called before each pause while another process holds the lock.
    """

    def __init__(self, path: Path, waiting: Callable[[], None]) -> None:
        self.path, self.waiting = path, waiting
        self.waited = False
        """Whether another process held the lock first, so that entries missing before may exist by now."""
        self._file: IO[bytes] | None = None
        self._threads = threading.Lock()

    def acquire(self) -> None:
        """Acquire the lock for this process; blocks until it is free."""
        with self._threads:
            if self._file is None:
                self._file = open(self.path, "ab", opener=open_nofollow)  # noqa: SIM115
                while not self._locked(self._file):
                    self.waited = True
                    self.waiting()
                    time.sleep(POLL_SECONDS)

    @staticmethod
    def _locked(file: IO[bytes]) -> bool:
        if sys.platform == "win32":  # no lock: processes decode in parallel, and the cache keeps the first copy
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock, if held."""
        if self._file is not None:
            self._file.close()
            self._file = None

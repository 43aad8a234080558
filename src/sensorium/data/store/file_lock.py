"""Whose turn it is to fill a shelf: of several processes one decodes, and the others wait and then find it done."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sensorium.data.store.integrity import open_here

if sys.platform != "win32":
    import fcntl

EVERY = 0.1
"""Seconds between two looks whether the other is done."""


class Turn:
    """Taken when there is something to decode, by the first thread that meets it; given back at the end of the ``with``.

    The system gives it back where its holder is killed. A file system without locks gives it to everybody.
    """

    def __init__(self, path: Path, waiting: Callable[[], None]) -> None:
        self.path, self.waiting = path, waiting
        self.waited = False
        """Whether another process held it first: what was looked for and not found may be there by now."""
        self._file: IO[bytes] | None = None
        self._threads = threading.Lock()

    def take(self) -> None:
        """Return when it is this process's turn."""
        with self._threads:
            if self._file is None:
                self._file = open(self.path, "ab", opener=open_here)  # noqa: SIM115
                while not self._locked(self._file):
                    self.waited = True
                    self.waiting()
                    time.sleep(EVERY)

    @staticmethod
    def _locked(file: IO[bytes]) -> bool:
        if sys.platform == "win32":  # all may decode at once there, and the shelf takes each array from whoever is first
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
        self.give_back()

    def give_back(self) -> None:
        """It is the next one's turn."""
        if self._file is not None:
            self._file.close()
            self._file = None

"""Interleaved generation of answers on one thread, so that no client waits for another's complete answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import Any, NamedTuple

MOST = 32
"""Maximum number of interleaved answers: each holds a cache of its conversation. Others wait."""


class _Answer(NamedTuple):
    pieces: Iterator[str | bool]
    put: Callable[[Any], None]
    stopped: Event

    def advance(self) -> bool:
        """Generate the next piece and hand it on; return whether there may be more."""
        if self.stopped.is_set():
            return False
        try:
            piece = next(self.pieces, False)
        except Exception as error:  # raised again where the pieces are read
            self.put(error)
            return False
        self.put(piece)
        return not isinstance(piece, bool)


class InterleavedAnswers:
    """A thread that generates answers in turn, one piece of each at a time.

    Args:
        most: Maximum number of answers in progress.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chat")
        self._lock = Lock()
        self._waiting: deque[_Answer] = deque()
        self._running = False

    def submit(self, pieces: Iterator[str | bool], put: Callable[[Any], None], stopped: Event) -> None:
        """Generate an answer.

        Args:
            pieces: The answer; its last piece is a ``bool``.
            put: Called with each piece, or with the exception that ended the answer.
            stopped: Set when the client no longer listens.
        """
        with self._lock:
            self._waiting.append(_Answer(pieces, put, stopped))
            if not self._running:
                self._thread.submit(self._run)
                self._running = True

    def _run(self) -> None:
        active: deque[_Answer] = deque()
        while True:
            with self._lock:
                while self._waiting and len(active) < self.most:
                    active.append(self._waiting.popleft())
                if not active:
                    self._running = False
                    return
            for _ in range(len(active)):
                answer = active.popleft()
                if answer.advance():
                    active.append(answer)

    def close(self) -> None:
        """Finish the answers in progress, then end the thread."""
        self._thread.shutdown()

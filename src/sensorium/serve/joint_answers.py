"""Generation of the answers of several clients on one thread, in joint forward passes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from threading import Lock
from typing import Any, Protocol

from sensorium.core.schema import Sample
from sensorium.streaming.chat_session import Wish

MOST = 32
"""Maximum number of answers in progress: each holds a cache of its conversation. Others wait."""
BEGUN_AT_ONCE = 8
"""Maximum number of conversations read in one pass, for which the answers in progress wait."""


class Answers(Protocol):
    """Answers that are generated together: ``streaming.chat_session.GeneratedAnswers``."""

    def add(self, rows: Sequence[tuple[Sample, Wish]]) -> list[int]:
        """Begin the answers to ``rows`` and return their numbers."""

    def advance(self) -> list[tuple[int, str | bool]]:
        """Return new pieces by number; the last piece of an answer is a ``bool``."""

    def remove(self, number: int) -> None:
        """Abandon the answer ``number``."""


class Listener:
    """A client that waits for an answer, in the event loop in which this is created.

    Args:
        sample: The encoded row.
        wish: How the answer is generated.
    """

    def __init__(self, sample: Sample, wish: Wish) -> None:
        self.sample, self.wish = sample, wish
        self.loop = asyncio.get_running_loop()
        self.pieces: asyncio.Queue[Any] = asyncio.Queue()
        """The pieces of the answer, last a ``bool``, or the exception that ended it."""
        self.left = False

    def leave(self) -> None:
        """Abandon the answer."""
        self.left = True


class JointAnswers:
    """A thread that generates answers together, a token of each at a time.

    Requests that arrive while answers are generated join them at the next token. Nobody waits for requests that have not
    arrived.

    Args:
        make: Makes an empty set of answers.
        most: Maximum number of answers in progress.
    """

    def __init__(self, make: Callable[[], Answers], most: int = MOST) -> None:
        self._make, self.most = make, most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chat")
        self._lock = Lock()
        self._waiting: deque[Listener] = deque()
        self._running = False

    def submit(self, sample: Sample, wish: Wish) -> Listener:
        """Begin the answer to ``sample``, generated as ``wish`` says; called in the event loop that reads its pieces."""
        listener = Listener(sample, wish)
        with self._lock:
            self._waiting.append(listener)
            if not self._running:
                self._thread.submit(self._run_reported)
                self._running = True
        return listener

    def _run_reported(self) -> None:
        """Generate; where that cannot begin at all, those who wait get the reason, and the next request tries again."""
        try:
            self._run()
        except Exception as error:
            with self._lock:
                waiting, self._waiting, self._running = self._waiting, deque(), False
            _deliver([(listener, error) for listener in waiting])

    def _run(self) -> None:
        answers, active = self._make(), dict[int, Listener]()
        while True:
            for number in [number for number, listener in active.items() if listener.left]:
                answers.remove(number)
                del active[number]
            with self._lock:
                # Clients that left while they waited hold a row each, and others arrive in their place.
                self._waiting = deque(listener for listener in self._waiting if not listener.left)
                count = min(self.most - len(active), BEGUN_AT_ONCE, len(self._waiting))
                begun = [self._waiting.popleft() for _ in range(count)]
                if not begun and not active:
                    self._running = False
                    return
            active |= _begin(answers, [listener for listener in begun if not listener.left])
            try:
                pieces = answers.advance()
            except Exception as error:  # raised again where the pieces are read
                _deliver([(listener, error) for listener in active.values()])
                answers, active = self._make(), {}
                continue
            _deliver([(active[number], piece) for number, piece in pieces])
            for number, piece in pieces:
                if isinstance(piece, bool):
                    del active[number]

    def close(self) -> None:
        """Finish the answers in progress, then end the thread."""
        self._thread.shutdown()


def _begin(answers: Answers, listeners: list[Listener]) -> dict[int, Listener]:
    """Begin the answers that ``listeners`` wait for and return them by number; where one cannot begin, its client gets
    the reason."""
    if not listeners:
        return {}
    try:
        return dict(zip(answers.add([(one.sample, one.wish) for one in listeners]), listeners, strict=True))
    except Exception as error:
        if len(listeners) == 1:
            _deliver([(listeners[0], error)])
            return {}
    # One of them is the cause: the others begin without it.
    return {number: one for listener in listeners for number, one in _begin(answers, [listener]).items()}


def _deliver(items: Sequence[tuple[Listener, Any]]) -> None:
    """Hand on pieces and exceptions, waking each event loop once."""

    def put(group: list[tuple[Listener, Any]]) -> None:
        for listener, item in group:
            listener.pieces.put_nowait(item)

    for _, group in groupby(items, key=lambda item: id(item[0].loop)):
        members = list(group)
        with suppress(RuntimeError):  # the loop is closed: no receiver
            members[0][0].loop.call_soon_threadsafe(put, members)

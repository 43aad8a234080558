"""A request's rows to arrays: beside the model in threads where that takes long, else on the model's own thread.

Between two rows it is looked whether anybody still waits for the answer: a client may have left, or its time may be up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from threading import Lock
from time import thread_time
from typing import Any

from sensorium.core.schema import Problem, Record, Sample
from sensorium.serve.http_errors import unusable

Decoded = tuple[list[Sample], list[list[Problem]]]
Encode = Callable[[Record, int], tuple[Sample, list[Problem]]]
FEW = 8
"""Rows that a thread takes at a time."""
LONG = 0.002
"""Seconds of work for a row from which on threads are worth their hand-overs. Python runs one thread at a time, but
decoders of large files let the others go on."""


class Pace:
    """How long a row takes to decode, of late."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @property
    def long(self) -> bool:
        return self.seconds > LONG

    def add(self, seconds: float, rows: int) -> None:
        """So many rows took so long."""
        if rows:
            self.seconds += 0.1 * (seconds / rows - self.seconds)


class Decoding:
    """The decoding of one request. An error, or cells that cannot be used, end in the answer.

    Args:
        encode: A row and its number to arrays and problems.
        lenient: Whether cells that cannot be used count as missing.
        pace: Is told how long it took; None: nobody is.
    """

    def __init__(self, encode: Encode, rows: Sequence[Record], lenient: bool, pace: Pace | None) -> None:
        self.rows = rows
        self._encode, self._lenient, self.pace = encode, lenient, pace
        self._found: list[tuple[Sample, list[Problem]]] = [({}, [])] * len(rows)
        self._left = len(rows)
        self._lock = Lock()

    def now(self) -> Decoded:
        """Here, at once. Raises ``RefusedError`` where cells cannot be used."""
        self._some(0, len(self.rows), None)
        return self._whole()

    def start(self, threads: Executor, answer: Future[Any], done: Callable[[Decoded], Any]) -> None:
        """A few rows at a time in threads; returns at once. The thread that finishes last hands the whole to ``done``.

        Args:
            answer: What the client waits for; nothing more is done once it was given up.
        """

        def work(start: int) -> None:
            try:
                if self._some(start, FEW, answer):
                    done(self._whole())
            except Exception as error:  # told to the one who waits: nobody looks into a thread
                with self._lock:
                    if not answer.done() and answer.set_running_or_notify_cancel():
                        answer.set_exception(error)

        for start in range(0, max(len(self.rows), 1), FEW):
            threads.submit(work, start)

    def _some(self, start: int, count: int, answer: Future[Any] | None) -> bool:
        """Whether these were the last, and are still asked for."""
        begun = thread_time()
        rows = self.rows[start : start + count]
        for i, row in enumerate(rows, start):
            if answer is not None and answer.done():  # given up, or refused for another row
                return False
            self._found[i] = self._encode(row, i + 1)
        if answer is not None and answer.done():
            return False
        with self._lock:
            if self.pace is not None:
                self.pace.add(thread_time() - begun, len(rows))
            self._left -= len(rows)
            return self._left == 0

    def _whole(self) -> Decoded:
        problems = [problem for _, found in self._found for problem in found if problem.missing]
        if problems and not self._lenient:
            raise unusable(problems)
        return [sample for sample, _ in self._found], [found for _, found in self._found]

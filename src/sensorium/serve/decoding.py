"""Decode the rows of a request to arrays: slow ones in decoding threads, fast ones on the thread of the model.

Between rows decoding checks whether the answer is still needed: the client may have disconnected or timed out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from threading import Lock
from time import thread_time
from typing import Any

from sensorium.core.schema import Problem, Record, Sample
from sensorium.serve.http_errors import unreadable_cells

Decoded = tuple[list[Sample], list[list[Problem]]]
Encode = Callable[[Record, int], tuple[Sample, list[Problem]]]
CHUNK_ROWS = 8
"""Number of rows that a thread decodes at a time."""
SLOW_SECONDS = 0.002
"""Seconds per row above which threads are worth their overhead. Decoders of large files release Python's global lock."""


class DecodingTime:
    """Moving average of the time to decode a row, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @property
    def is_slow(self) -> bool:
        """Whether a row takes long enough to be decoded in a thread."""
        return self.seconds > SLOW_SECONDS

    def add(self, seconds: float, rows: int) -> None:
        """Record that ``rows`` rows took ``seconds``."""
        if rows:
            self.seconds += 0.1 * (seconds / rows - self.seconds)


class DecodingJob:
    """The decoding of one request. Errors and unreadable cells are set on the future of the answer.

    Args:
        encode: Converts a row and its number to arrays and problems.
        rows: The rows of the request.
        lenient: Whether unreadable cells count as missing.
        time: Records how long the rows took, if given.
    """

    def __init__(self, encode: Encode, rows: Sequence[Record], lenient: bool, time: DecodingTime | None) -> None:
        self.rows = rows
        self._encode, self._lenient, self.time = encode, lenient, time
        self._decoded: list[tuple[Sample, list[Problem]]] = [({}, [])] * len(rows)
        self._left = len(rows)
        self._lock = Lock()

    def run(self) -> Decoded:
        """Decode all rows in this thread. Raises ``RequestError`` if cells cannot be read."""
        self._decode(0, len(self.rows), None)
        return self._result()

    def start(self, threads: Executor, answer: Future[Any], done: Callable[[Decoded], Any]) -> None:
        """Decode the rows in threads, a few at a time, and return at once.

        Args:
            threads: The threads that decode.
            answer: The future the client waits for; decoding stops once it is cancelled.
            done: Is called with the result by the thread that finishes last.
        """

        def work(start: int) -> None:
            try:
                if self._decode(start, CHUNK_ROWS, answer):
                    done(self._result())
            except Exception as error:  # set on the future, since nobody sees an exception of a thread
                with self._lock:
                    if not answer.done() and answer.set_running_or_notify_cancel():
                        answer.set_exception(error)

        for start in range(0, max(len(self.rows), 1), CHUNK_ROWS):
            threads.submit(work, start)

    def _decode(self, start: int, count: int, answer: Future[Any] | None) -> bool:
        """Decode ``count`` rows; return whether they were the last and the answer is still needed."""
        started = thread_time()
        rows = self.rows[start : start + count]
        for i, row in enumerate(rows, start):
            if answer is not None and answer.done():  # cancelled, or failed for another row
                return False
            self._decoded[i] = self._encode(row, i + 1)
        if answer is not None and answer.done():
            return False
        with self._lock:
            if self.time is not None:
                self.time.add(thread_time() - started, len(rows))
            self._left -= len(rows)
            return self._left == 0

    def _result(self) -> Decoded:
        problems = [problem for _, problems in self._decoded for problem in problems if problem.missing]
        if problems and not self._lenient:
            raise unreadable_cells(problems)
        return [sample for sample, _ in self._decoded], [row_problems for _, row_problems in self._decoded]

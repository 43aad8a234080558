"""A request's rows to arrays, a few at a time in threads; the last thread hands the whole to the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from threading import Lock
from typing import Any

from sensorium.core.schema import Problem, Record, Sample
from sensorium.serve.refusal import unusable

Decoded = tuple[list[Sample], list[list[Problem]]]
FEW = 8
"""Rows that a thread takes at a time: a hand-over costs as much as a small cell."""


class Decoding:
    """The decoding of one request. An error, or cells that cannot be used, end in the answer.

    Args:
        encode: A row and its number to arrays and problems.
        lenient: Whether cells that cannot be used count as missing.
        answer: What the client waits for; nothing more is done once it was given up.
        done: Takes the arrays, on the thread that finished last.
    """

    def __init__(
        self,
        encode: Callable[[Record, int], tuple[Sample, list[Problem]]],
        rows: Sequence[Record],
        lenient: bool,
        answer: Future[Any],
        done: Callable[[Decoded], None],
    ) -> None:
        self._encode, self._rows, self._lenient, self._answer, self._done = encode, rows, lenient, answer, done
        self._found: list[tuple[Sample, list[Problem]]] = [({}, [])] * len(rows)
        self._left = len(rows)
        self._lock = Lock()

    def start(self, threads: Executor) -> None:
        """Begin; returns at once."""
        for start in range(0, max(len(self._rows), 1), FEW):
            threads.submit(self._some, start)

    def _some(self, start: int) -> None:
        try:
            if self._answer.cancelled():
                return
            rows = self._rows[start : start + FEW]
            for i, row in enumerate(rows, start):
                self._found[i] = self._encode(row, i + 1)
            with self._lock:
                self._left -= len(rows)
                last = self._left == 0
            if last:
                self._finish()
        except Exception as error:  # told to the one who waits: nobody looks into a thread
            with self._lock:
                if not self._answer.done() and self._answer.set_running_or_notify_cancel():
                    self._answer.set_exception(error)

    def _finish(self) -> None:
        problems = [problem for _, found in self._found for problem in found]
        if problems and not self._lenient:
            raise unusable(problems)
        self._done(([sample for sample, _ in self._found], [found for _, found in self._found]))

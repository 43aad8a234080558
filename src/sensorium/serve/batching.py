"""Requests that wait together are answered together, in one thread, from a bounded queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Thread
from time import monotonic
from typing import Any, Generic, TypeVar

W = TypeVar("W")
R = TypeVar("R")


class FullError(Exception):
    """The queue holds as many rows as it may."""


class ClosedError(Exception):
    """The queue takes nothing more: the server is going down."""


@dataclass
class _Job(Generic[W, R]):
    work: W
    rows: int
    since: float
    future: Future[R]


class Place(Generic[W, R]):
    """Room in the queue for one request, held until it is answered. ``coming`` until its work is handed in or given up."""

    def __init__(self, batcher: Batcher[W, R], rows: int) -> None:
        self._batcher, self.rows, self.coming = batcher, rows, True

    def submit(self, work: W, answer: Future[R] | None = None) -> Future[R]:
        """Hand in the work that the room was kept for, from any thread; ``answer`` is what is then settled."""
        return self._batcher._submit(self, _Job(work, self.rows, monotonic(), answer or Future()))


class Batcher(Generic[W, R]):
    """A bounded queue and the one thread that empties it.

    A request is announced by ``admit`` while it is still being decoded. So the thread knows whether company is on its way:
    it waits for that, though for no more than ``wait`` seconds, and never when nobody is coming.

    Args:
        answer: Answers several works at once, one result for each, or the error of that one alone.
        rows: Rows answered together, at most; a larger work is answered alone.
        wait: The latency target: seconds that a work is held back for company, at most.
        queue: Rows admitted at once, at most.
        seen: Told of every batch: how many rows, and seconds it took.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[W]], Sequence[R | Exception]],
        *,
        rows: int = 32,
        wait: float = 0.01,
        queue: int = 256,
        seen: Callable[[int, float], None] | None = None,
    ) -> None:
        self._answer, self.rows, self.wait, self.queue = answer, rows, wait, queue
        self._seen = seen
        self._change = Condition()
        self._jobs: deque[_Job[W, R]] = deque()
        self._waiting = 0
        self._coming = 0
        self._admitted = 0
        self._closed = False
        self._thread = Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def load(self) -> int:
        """Rows that are inside."""
        return self._admitted

    @contextmanager
    def admit(self, rows: int) -> Iterator[Place[W, R]]:
        """Room for a request of so many rows. Raises ``FullError`` or ``ClosedError``."""
        rows = max(rows, 1)
        with self._change:
            if self._closed:
                raise ClosedError
            # A request larger than the whole queue may still come into an empty house.
            if self._admitted and self._admitted + rows > self.queue:
                raise FullError
            self._admitted += rows
            self._coming += 1
        place = Place(self, rows)
        try:
            yield place
        finally:
            with self._change:
                self._admitted -= rows
                if place.coming:
                    place.coming = False
                    self._coming -= 1
                    self._change.notify()

    def _submit(self, place: Place[W, R], job: _Job[W, R]) -> Future[R]:
        with self._change:
            if not place.coming:  # given up while it was being decoded
                job.future.cancel()
                return job.future
            place.coming = False
            self._coming -= 1
            if self._closed and not self._thread.is_alive():
                raise ClosedError
            self._jobs.append(job)
            self._waiting += job.rows
            # A batch that still waits for company need not be looked at for every one that joins it.
            if len(self._jobs) == 1 or not self._coming or self._waiting >= self.rows:
                self._change.notify()
        return job.future

    def close(self) -> None:
        """Take nothing more, finish what was admitted, and stop."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._jobs:
                    if self._closed and not self._coming:
                        return
                    self._change.wait()
                self._gather()
                jobs = self._taken()
            self._run([job for job in jobs if job.future.set_running_or_notify_cancel()])

    def _gather(self) -> None:
        """Wait for company while some is coming, the batch has room and the first has not waited too long."""
        until = self._jobs[0].since + self.wait
        while self._coming and not self._closed and self._waiting < self.rows:
            left = until - monotonic()
            if left <= 0 or not self._change.wait(left):
                return

    def _taken(self) -> list[_Job[W, R]]:
        taken = [self._jobs.popleft()]
        rows = taken[0].rows
        while self._jobs and rows + self._jobs[0].rows <= self.rows:
            rows += self._jobs[0].rows
            taken.append(self._jobs.popleft())
        self._waiting -= rows
        return taken

    def _run(self, jobs: list[_Job[W, R]]) -> None:
        if not jobs:
            return
        start = monotonic()
        try:
            results: Sequence[Any] = self._answer([job.work for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            # One request must not spoil the others: each again, alone.
            for job in jobs:
                self._run([job])
            return
        if self._seen is not None:
            self._seen(sum(job.rows for job in jobs), monotonic() - start)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

"""Batching: concurrent requests are answered together by one thread, from a bounded queue."""

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
    """The queue is full."""


class ClosedError(Exception):
    """The queue is closed: the server is shutting down."""


@dataclass
class _Job(Generic[W, R]):
    work: W
    rows: int
    since: float
    future: Future[R]


class Reservation(Generic[W, R]):
    """Space in the queue for one request, held until it is answered.

    ``pending`` is True until the work is submitted or abandoned.

    Args:
        batcher: The queue.
        rows: Number of rows of the request.
    """

    def __init__(self, batcher: Batcher[W, R], rows: int) -> None:
        self._batcher, self.rows, self.pending = batcher, rows, True

    def submit(self, work: W, answer: Future[R] | None = None) -> Future[R]:
        """Submit the ``work`` of the request, from any thread; return the future of its result, ``answer`` if given."""
        return self._batcher._submit(self, _Job(work, self.rows, monotonic(), answer or Future()))


class Batcher(Generic[W, R]):
    """A bounded queue and the thread that processes it.

    ``admit`` announces a request while it is still being decoded. The thread therefore knows whether more work is pending:
    it waits for that at most ``wait`` seconds, and not at all if nothing is pending.

    Args:
        process: Processes several works at once; returns a result, or an exception, for each.
        rows: Maximum number of rows per batch; a larger work is processed alone.
        wait: Maximum seconds that a work waits for others to share its batch.
        queue: Maximum number of rows in progress.
        on_batch: Is called after each batch with its number of rows and its seconds.
    """

    def __init__(
        self,
        process: Callable[[Sequence[W]], Sequence[R | Exception]],
        *,
        rows: int = 32,
        wait: float = 0.01,
        queue: int = 256,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        self._process, self.rows, self.wait, self.queue = process, rows, wait, queue
        self._on_batch = on_batch
        self._change = Condition()
        self._jobs: deque[_Job[W, R]] = deque()
        self._waiting = 0
        self._pending = 0
        self._admitted = 0
        self._closed = False
        self._thread = Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def load(self) -> int:
        """Number of rows in progress."""
        return self._admitted

    @contextmanager
    def admit(self, rows: int) -> Iterator[Reservation[W, R]]:
        """Reserve space for a request of ``rows`` rows. Raises ``FullError`` or ``ClosedError``."""
        rows = max(rows, 1)
        with self._change:
            if self._closed:
                raise ClosedError
            # An empty queue also admits a request larger than the queue.
            if self._admitted and self._admitted + rows > self.queue:
                raise FullError
            self._admitted += rows
            self._pending += 1
        reservation = Reservation(self, rows)
        try:
            yield reservation
        finally:
            with self._change:
                self._admitted -= rows
                if reservation.pending:
                    reservation.pending = False
                    self._pending -= 1
                    self._change.notify()

    def _submit(self, reservation: Reservation[W, R], job: _Job[W, R]) -> Future[R]:
        with self._change:
            if not reservation.pending:  # abandoned while it was being decoded
                job.future.cancel()
                return job.future
            reservation.pending = False
            self._pending -= 1
            if self._closed and not self._thread.is_alive():
                raise ClosedError
            self._jobs.append(job)
            self._waiting += job.rows
            # Wake the thread only when the batch may be complete, not for every work that joins it.
            if len(self._jobs) == 1 or not self._pending or self._waiting >= self.rows:
                self._change.notify()
        return job.future

    def close(self) -> None:
        """Admit no more requests, finish the admitted ones and stop the thread."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._jobs:
                    if self._closed and not self._pending:
                        return
                    self._change.wait()
                self._gather()
                jobs = self._take()
            self._run([job for job in jobs if job.future.set_running_or_notify_cancel()])

    def _gather(self) -> None:
        """Wait for more work while some is pending, the batch has space and the first has not waited too long."""
        deadline = self._jobs[0].since + self.wait
        while self._pending and not self._closed and self._waiting < self.rows:
            left = deadline - monotonic()
            if left <= 0 or not self._change.wait(left):
                return

    def _take(self) -> list[_Job[W, R]]:
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
            results: Sequence[Any] = self._process([job.work for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            # One bad request must not fail the others: run each of them alone.
            for job in jobs:
                self._run([job])
            return
        if self._on_batch is not None:
            self._on_batch(sum(job.rows for job in jobs), monotonic() - start)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

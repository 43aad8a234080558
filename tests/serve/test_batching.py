"""The request queue: order, bounds, batching and shutdown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")

from sensorium.serve.batching import Batcher, ClosedError, FullError


class Doubling:
    """A model that doubles its inputs; it can be paused and records its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = Event()
        self.go.set()

    def __call__(self, works: Sequence[int]) -> list[int]:
        self.go.wait(10)
        self.batches.append(list(works))
        if -1 in works:
            raise ValueError("poison")
        return [2 * work for work in works]


@pytest.fixture
def model() -> Doubling:
    return Doubling()


@pytest.fixture
def batcher(model: Doubling) -> Iterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(model, rows=4, wait=0.2, queue=10)
    yield batcher
    model.go.set()
    batcher.close()


def ask(batcher: Batcher[int, int], work: int) -> int:
    with batcher.admit(1) as reservation:
        return reservation.submit(work).result(10)


def test_each_request_gets_its_own_answer(batcher: Batcher[int, int], model: Doubling) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: ask(batcher, i), range(100))) == [2 * i for i in range(100)]
    assert max(map(len, model.batches)) <= 4
    assert sum(map(len, model.batches)) == 100
    assert batcher.load == 0


def test_single_request_does_not_wait(batcher: Batcher[int, int]) -> None:
    start = time.monotonic()
    assert ask(batcher, 1) == 2
    assert time.monotonic() - start < 0.15


def test_pending_requests_are_awaited_up_to_the_time_limit(batcher: Batcher[int, int], model: Doubling) -> None:
    with batcher.admit(1) as first, batcher.admit(1) as second:
        one = first.submit(1)
        time.sleep(0.05)
        assert not one.done()
        two = second.submit(2)
        assert (one.result(5), two.result(5)) == (2, 4)
    assert model.batches == [[1, 2]]
    start = time.monotonic()
    with batcher.admit(1) as first, batcher.admit(1):
        assert first.submit(3).result(5) == 6
    assert 0.15 < time.monotonic() - start < 2


def test_queue_is_bounded(batcher: Batcher[int, int], model: Doubling) -> None:
    with batcher.admit(6), batcher.admit(4), pytest.raises(FullError), batcher.admit(1):
        pass
    with batcher.admit(50):  # more than fits, into an empty queue
        pass
    assert batcher.load == 0


def test_failing_request_does_not_fail_others(batcher: Batcher[int, int], model: Doubling) -> None:
    with batcher.admit(1) as a, batcher.admit(1) as b, batcher.admit(1) as c:
        futures = [a.submit(1), b.submit(-1), c.submit(3)]
        assert futures[0].result(5) == 2
        assert futures[2].result(5) == 6
        with pytest.raises(ValueError, match="poison"):
            futures[1].result(5)
    assert ask(batcher, 4) == 8


def test_cancelled_requests_are_not_processed(batcher: Batcher[int, int], model: Doubling) -> None:
    model.go.clear()
    with batcher.admit(1) as a, batcher.admit(1) as b, batcher.admit(1) as c:
        running = a.submit(1)
        b.submit(2).cancel()
        last = c.submit(3)
        model.go.set()
        assert (running.result(5), last.result(5)) == (2, 6)
    assert 2 not in [work for batch in model.batches for work in batch]


def test_close_finishes_requests_in_progress(model: Doubling) -> None:
    batcher: Batcher[int, int] = Batcher(model, rows=1, wait=0.0, queue=10)
    model.go.clear()
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(ask, batcher, i) for i in range(5)]
        while batcher.load < 5:
            time.sleep(0.001)
        closing = pool.submit(batcher.close)
        model.go.set()
        closing.result(5)
        assert [future.result(5) for future in running] == [0, 2, 4, 6, 8]
    with pytest.raises(ClosedError), batcher.admit(1):
        pass

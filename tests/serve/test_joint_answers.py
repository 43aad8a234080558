"""Answers of several clients are generated together; they join, leave and fail by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from threading import Event
from typing import Any

import pytest

from sensorium.serve.joint_answers import JointAnswers, Listener
from sensorium.streaming.chat_session import Wish

LONG = 40


class Counting:
    """Answers of as many pieces as asked for. ``steps`` are the numbers that each step advances."""

    steps: list[tuple[int, ...]]
    refuse: str = ""
    ready: Event  # set once all requests are submitted
    fail_at: int | None = None

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.names: dict[int, str] = {}

    def add(self, rows: Any) -> list[int]:
        assert Counting.ready.wait(10)
        if any(sample == Counting.refuse for sample, _ in rows):
            raise ValueError("refused")
        numbers = []
        for sample, wish in rows:
            numbers.append(len(self.names))
            self.names[numbers[-1]], self.left[numbers[-1]] = sample, wish.most
        return numbers

    def advance(self) -> list[tuple[int, str | bool]]:
        Counting.steps.append(tuple(self.left))
        if Counting.fail_at is not None and len(Counting.steps) == Counting.fail_at:
            raise ValueError("failed")
        pieces: list[tuple[int, str | bool]] = []
        for number in list(self.left):
            pieces.append((number, self.names[number]))
            self.left[number] -= 1
            if not self.left[number]:
                pieces.append((number, True))
                del self.left[number]
        return pieces

    def remove(self, number: int) -> None:
        self.left.pop(number, None)


@pytest.fixture(autouse=True)
def reset() -> None:
    Counting.steps, Counting.refuse, Counting.fail_at, Counting.ready = [], "", None, Event()
    Counting.ready.set()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


async def read(listener: Listener) -> list[Any]:
    heard: list[Any] = []
    while not heard or isinstance(heard[-1], str):
        heard.append(await listener.pieces.get())
    return heard


def test_answers_advance_together_and_others_wait_for_a_place() -> None:
    async def clients() -> list[list[Any]]:
        answers = JointAnswers(Counting, most=2)
        Counting.ready.clear()
        listeners = [answers.submit(name, Wish(most=count)) for name, count in (("a", LONG), ("b", 2), ("c", 1))]  # type: ignore[arg-type]
        Counting.ready.set()
        heard = await asyncio.gather(*map(read, listeners))
        answers.close()
        return heard

    assert run(clients()) == [["a"] * LONG + [True], ["b", "b", True], ["c", True]]
    assert max(map(len, Counting.steps)) == 2
    assert len(Counting.steps) == LONG


def test_an_error_or_a_disconnect_ends_only_its_own_answer() -> None:
    async def clients() -> list[Any]:
        answers = JointAnswers(Counting)
        Counting.refuse = "bad"
        gone, bad, good = (
            answers.submit(name, Wish(most=10**9 if name == "gone" else 3)) for name in ("gone", "bad", "good")
        )  # type: ignore[arg-type]
        assert await gone.pieces.get() == "gone"
        gone.leave()
        heard = [await read(bad), await read(good)]
        answers.close()  # returns, since nothing is in progress
        return heard

    (error,), good = run(clients())
    assert isinstance(error, ValueError)
    assert good == ["good", "good", "good", True]


def test_a_failed_step_ends_the_answers_in_progress_and_later_ones_begin_anew() -> None:
    async def clients() -> list[Any]:
        answers = JointAnswers(Counting)
        Counting.fail_at = 3
        Counting.ready.clear()
        listeners = [answers.submit("a", Wish(most=5)) for _ in range(2)]  # type: ignore[arg-type]
        Counting.ready.set()
        first = await asyncio.gather(*map(read, listeners))
        second = await read(answers.submit("b", Wish(most=2)))  # type: ignore[arg-type]
        answers.close()
        return [*first, second]

    *failed, later = run(clients())
    for heard in failed:
        assert isinstance(heard[-1], ValueError)
        assert set(heard[:-1]) <= {"a"}
    assert later == ["b", "b", True]


def test_clients_that_leave_while_they_wait_are_not_kept() -> None:
    async def clients() -> int:
        answers = JointAnswers(Counting, most=1)
        first = answers.submit("a", Wish(most=10**9))  # type: ignore[arg-type]
        await first.pieces.get()
        for _ in range(50):
            answers.submit("gone", Wish(most=1)).leave()  # type: ignore[arg-type]
        for _ in range(3):  # the step in progress, and one after it
            first.pieces = asyncio.Queue()
            await first.pieces.get()
        kept = len(answers._waiting)
        first.leave()
        answers.close()
        return kept

    assert run(clients()) == 0


def test_where_generation_cannot_begin_clients_get_the_reason_and_the_next_tries_again() -> None:
    attempts: list[int] = []

    def make() -> Counting:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("no memory")
        return Counting()

    async def clients() -> list[Any]:
        answers = JointAnswers(make)
        heard = [await read(answers.submit(name, Wish(most=1))) for name in ("a", "b")]  # type: ignore[arg-type]
        answers.close()
        return heard

    (error,), later = run(clients())
    assert isinstance(error, ValueError)
    assert later == ["b", True]

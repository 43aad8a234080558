"""Answers of several clients are generated in turn."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest

from sensorium.serve.interleaved_answers import InterleavedAnswers


@pytest.fixture
def answers() -> Iterator[InterleavedAnswers]:
    made = InterleavedAnswers(most=2)
    yield made
    made.close()


def test_a_short_answer_does_not_wait_for_a_long_one(answers: InterleavedAnswers) -> None:
    heard: SimpleQueue[Any] = SimpleQueue()
    both = Event()

    def pieces(name: str, count: int) -> Iterator[str | bool]:
        both.wait(10)
        yield from (f"{name}{i}" for i in range(count))
        yield True

    for name, count in (("a", 50), ("b", 2), ("c", 1)):
        answers.submit(pieces(name, count), lambda piece, name=name: heard.put((name, piece)), Event())  # type: ignore[misc]
    both.set()
    order = [heard.get(timeout=10) for _ in range(56)]
    assert [piece for name, piece in order if name == "a"] == [*(f"a{i}" for i in range(50)), True]
    assert order.index(("b", True)) < 8
    # At most two at a time: the third begins when the second is done.
    assert order.index(("b", True)) < order.index(("c", "c0")) < order.index(("a", "a5"))


def test_an_error_or_a_disconnect_ends_only_its_own_answer(answers: InterleavedAnswers) -> None:
    heard: SimpleQueue[Any] = SimpleQueue()
    gone = Event()

    def failing() -> Iterator[str | bool]:
        yield "a"
        raise ValueError("no")

    def endless() -> Iterator[str | bool]:
        while True:
            yield "more"

    answers.submit(endless(), lambda piece: gone.set(), gone)
    answers.submit(failing(), heard.put, Event())
    assert heard.get(timeout=10) == "a"
    assert isinstance(heard.get(timeout=10), ValueError)
    answers.submit(iter(["z", True]), heard.put, Event())
    assert [heard.get(timeout=10) for _ in range(2)] == ["z", True]

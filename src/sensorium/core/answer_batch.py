"""Answers in words of a task to several rows, generated together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

Out = TypeVar("Out", contravariant=True)


class AnswerSettings(NamedTuple):
    """How one answer is generated.

    Args:
        most: Maximum number of tokens; None: as the task has it.
        drawing: Temperature, share of probability and seed of sampling; None: as the task has it.
        greedy: Whether the most probable token is taken, whatever the task has.
    """

    most: int | None = None
    drawing: tuple[float, float, int] | None = None
    greedy: bool = False


AS_THE_TASK = AnswerSettings()
"""As the task has it."""


class AnswerBatch(Protocol[Out]):
    """Answers that are generated together, a token of each at a time. They may begin and end at any time, and an answer
    does not depend on the others."""

    def add(self, output: Out, settings: Sequence[AnswerSettings]) -> list[int]:
        """Begin the answers to the rows of ``output``, generated as ``settings`` say of each; return a number for each, by
        which it is known."""

    def advance(self) -> list[tuple[int, str | bool]]:
        """Generate a token of each answer; return new pieces of text by the answer's number, and of each answer that is
        complete, last, whether it ended by itself. An answer may have no new piece."""

    def remove(self, number: int) -> None:
        """Abandon the answer ``number``; one that is complete, or not known, is none."""

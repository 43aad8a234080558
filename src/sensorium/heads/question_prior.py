"""Question-only answers: the most frequent training answer to the question, or to questions with the same first words."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sensorium.core.learned_buffers import LearnedBuffers

MOST = 20_000
"""Maximum number of questions and beginnings of questions kept."""
WORDS = 3
"""Length of the longest beginning, in words."""


class QuestionPrior(LearnedBuffers):
    """The question-only table: what a question reveals about its answer, without any medium.

    It answers with the most frequent training answer to the same question; to an unknown question with that to questions
    of the same first three, two or one words; else with the most frequent of all. ``table`` ``[n]`` uint8 holds it as JSON.
    Source: the per-question-type prior of Antol et al. 2015, https://arxiv.org/abs/1505.00468, § 4.2.
    """

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.declare("table", torch.uint8, 1)
        self._answers: dict[str, str] | None = None

    def learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Learn from ``pairs`` of question and answer."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for question, answer in pairs:
            for key in _keys(question):
                counts[key][answer] += 1
        kept = sorted(counts, key=lambda key: (key != "", -counts[key].total(), key))[:MOST]
        best = {key: max(counts[key].items(), key=lambda pair: (pair[1], pair[0]))[0] for key in kept}
        self._store(best)

    def _store(self, answers: dict[str, str]) -> None:
        data = json.dumps(answers, ensure_ascii=False).encode("utf-8", "replace")
        self.keep("table", torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self._answers = None

    @property
    def answers(self) -> dict[str, str]:
        """The answer by question or beginning; empty before ``learn``."""
        if self._answers is None:
            self._answers = json.loads(bytes(self.table.cpu().numpy()).decode("utf-8")) if len(self.table) else {}
        return self._answers

    def check(self) -> None:
        try:
            known = json.loads(bytes(self.table.cpu().numpy()).decode("utf-8")) if len(self.table) else {}
        except (ValueError, RecursionError):
            raise ValueError("the question-only table is not JSON") from None
        if not isinstance(known, dict) or len(known) > MOST or not all(isinstance(value, str) for value in known.values()):
            raise ValueError(f"the question-only table does not hold up to {MOST:,} answers by question")
        self._answers = None

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._answers = None

    def answer(self, question: str) -> str:
        """Return the answer to ``question``; empty where nothing was learnt."""
        return next((self.answers[key] for key in _keys(question) if key in self.answers), "")


def _keys(question: str) -> list[str]:
    """A question and its beginnings, from specific to general; the last is empty."""
    words = question.lower().split()
    return [f"={' '.join(words)}", *(" ".join(words[:n]) for n in range(min(WORDS, len(words)), 0, -1)), ""]

"""A conversation with a model that answers in words: its turns, its media, and the answer as it is generated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sensorium.core.cell_content import Opener
from sensorium.core.errors import ConfigError, DataError, nearest
from sensorium.core.forward import Forward
from sensorium.core.schema import Problem, Sample
from sensorium.core.task import Task
from sensorium.data.files.media_access import LocalFiles
from sensorium.model import Model
from sensorium.predictor import Predictor


class Wish(NamedTuple):
    """How an answer is to be generated.

    Args:
        most: Maximum number of tokens; None: as the task has it.
        temperature: 0: the most probable token each time; None: as the task has it; else of sampling.
        top_p: Share of probability that is sampled from.
        seed: Of sampling.
        stop: Texts that end the answer where they occur; they are not part of it.
    """

    most: int | None = None
    temperature: float | None = None
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


AS_TRAINED = Wish()
"""As the task has it."""


def conversing(model: Model) -> tuple[str, Task[Any]] | None:
    """Return the task of ``model`` that answers questions piece by piece, with its name; None if it has none."""
    tasks = ((name, task) for name, task in model.tasks.items() if task.conversational and task.goal.prompts)
    return next(tasks, None)


@torch.no_grad()
def stream_answer(predictor: Predictor, sample: Sample, task: str, wish: Wish = AS_TRAINED) -> Iterator[str | bool]:
    """Yield the answer of ``task`` of a model to the row ``sample``, piece by piece, and last whether it ended by itself.

    Args:
        predictor: The model.
        sample: The row, encoded.
        task: The name of a task that converses.
        wish: How it is generated.
    """
    output = Forward(predictor.model, predictor.batch([sample])).outputs[task]
    drawing = (wish.temperature, wish.top_p, wish.seed) if wish.temperature else None
    pieces = predictor.model.tasks[task].stream_answer(
        output, most=wish.most, drawing=drawing, greedy=wish.temperature == 0
    )
    yield from until_stop(pieces, wish.stop)


def until_stop(pieces: Iterable[str | bool], stop: Sequence[str]) -> Iterator[str | bool]:
    """Yield ``pieces`` of an answer up to the first of the texts ``stop``, and last whether it ended by itself or there.

    Text that may be the beginning of a stop text is held back until it is known not to be.
    """
    held = ""
    for piece in pieces:
        if isinstance(piece, bool):
            if held:
                yield held
            yield piece
            return
        held += piece
        places = [at for text in stop if (at := held.find(text)) >= 0]
        if places:
            if held[: min(places)]:
                yield held[: min(places)]
            yield True
            return
        kept = max((n for text in stop for n in range(1, len(text)) if held.endswith(text[:n])), default=0)
        if len(held) > kept:
            yield held[: len(held) - kept]
            held = held[len(held) - kept :]


@torch.no_grad()
def rank_choices(predictor: Predictor, sample: Sample, task: str, choices: Sequence[str]) -> dict[str, float]:
    """Return the probability of each of ``choices`` as the answer of ``task`` of the model in ``predictor`` to the row
    ``sample``, most probable first.

    Args:
        predictor: The model.
        sample: The encoded row.
        task: The name of the task.
        choices: The possible answers.

    Raises:
        ConfigError: There are fewer than two answers, an empty one, or one twice.
    """
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(text.strip() for text in choices):
        raise ConfigError("possible answers are two or more different texts")
    output = Forward(predictor.model, predictor.batch([sample])).outputs[task]
    return {text: math.exp(score) for text, score in predictor.model.tasks[task].rank_choices(output, choices)[0]}


class Chat:
    """One conversation with a trained model.

    Args:
        predictor: The model; one of its tasks answers piece by piece and is asked in a prompt column.
        media: Opens media cells; by default any file of this machine.
    """

    def __init__(self, predictor: Predictor, media: Opener | None = None) -> None:
        self.predictor = predictor
        self.media = media or LocalFiles(Path.cwd(), anywhere=True)
        conversational = conversing(predictor.model)
        if conversational is None:
            raise ConfigError(
                "this model does not converse: none of its tasks answers a question in words of its own",
                fix="sensorium fit TABLE --lm FOLDER --target ANSWER --prompt QUESTION",
            )
        self.name, task = conversational
        self.prompt = next(iter(task.goal.prompts))
        self.turns: list[dict[str, str]] = []
        self.cells: dict[str, Any] = {}

    def column(self, kind: str) -> str:
        """Return the first input column of ``kind`` that shows nothing yet: ``image``, ``audio``."""
        columns = [column.name for column in self.predictor.schema.inputs if column.spec["kind"] == kind]
        free = [name for name in columns if name not in self.cells]
        if not free:
            raise ConfigError(
                f"this model takes {len(columns)} inputs of kind {kind}" if columns else f"it takes no {kind}"
            )
        return free[0]

    def show(self, cells: Mapping[str, Any]) -> None:
        """Show media, and anything else of a row: ``cells`` by column, as in a table."""
        names = [column.name for column in self.predictor.schema.inputs]
        for name, cell in cells.items():
            if name not in names:
                raise ConfigError(f"no input column named {name!r}{nearest(name, names)}")
            self.cells[name] = cell

    def ask(self, text: str, wish: Wish = AS_TRAINED) -> Iterator[str]:
        """Say ``text`` and yield the answer piece by piece, generated with the settings ``wish``; afterwards both are turns
        of the conversation.

        Raises:
            DataError: A medium cannot be used.
        """
        turns, sample = self._asked(text)
        answer = ""
        for piece in stream_answer(self.predictor, sample, self.name, wish):
            if isinstance(piece, str):
                answer += piece
                yield piece
        self.turns = [*turns, {"role": "assistant", "content": answer}]

    def choose(self, text: str, choices: Sequence[str]) -> dict[str, float]:
        """Say ``text`` and return the probability of each of ``choices`` as the answer, most probable first; the first one
        becomes a turn of the conversation.

        Raises:
            ConfigError: ``choices`` are not two or more different texts.
            DataError: A medium cannot be used.
        """
        turns, sample = self._asked(text)
        probabilities = rank_choices(self.predictor, sample, self.name, choices)
        self.turns = [*turns, {"role": "assistant", "content": next(iter(probabilities))}]
        return probabilities

    def _asked(self, text: str) -> tuple[list[dict[str, str]], Sample]:
        """The turns so far with the question ``text``, and the row that they are."""
        turns = [*self.turns, {"role": "user", "content": text}]
        problems: list[Problem] = []
        row = {**self.cells, self.prompt: turns}
        sample = self.predictor.schema.encode(row, media=self.media, problems=problems)
        if problems:
            raise DataError(problems[0].problem, column=problems[0].column)
        return turns, sample

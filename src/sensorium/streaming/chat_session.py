"""A conversation with a model that answers in words: its turns, its media, and the answer as it is generated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sensorium.core.answer_batch import AnswerSettings
from sensorium.core.cell_content import Opener
from sensorium.core.errors import ConfigError, DataError, nearest
from sensorium.core.forward import Forward
from sensorium.core.messages import unplaced
from sensorium.core.plurals import counted
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


class GeneratedAnswers:
    """Answers of a model to several rows, generated together, a token of each at a time; they may begin at any time.

    An answer is that of the row alone, up to the rounding of sums.

    Args:
        predictor: The model.
        task: The name of a task that converses.
    """

    def __init__(self, predictor: Predictor, task: str) -> None:
        self.predictor, self.task = predictor, task
        self._batch = predictor.model.tasks[task].answer_batch()
        self._stops: dict[int, StopTexts] = {}

    @torch.no_grad()
    def add(self, rows: Sequence[tuple[Sample, Wish]]) -> list[int]:
        """Begin the answers to ``rows``, each an encoded row and how its answer is generated; return their numbers."""
        output = Forward(self.predictor.model, self.predictor.batch([sample for sample, _ in rows])).outputs[self.task]
        numbers = self._batch.add(output, [_settings(wish) for _, wish in rows])
        self._stops |= {number: StopTexts(wish.stop) for number, (_, wish) in zip(numbers, rows, strict=True)}
        return numbers

    @torch.no_grad()
    def advance(self) -> list[tuple[int, str | bool]]:
        """Generate a token of each answer; return new pieces of text by the answer's number, and of each answer that is
        complete, last, whether it ended by itself. An answer may have no new piece."""
        heard: list[tuple[int, str | bool]] = []
        for number, piece in self._batch.advance():
            if number not in self._stops:
                continue  # ended by a stop text in this very step
            pieces = self._stops[number].push(piece)
            heard += [(number, part) for part in pieces]
            if pieces and isinstance(pieces[-1], bool):
                self.remove(number)
        return heard

    def remove(self, number: int) -> None:
        """Abandon the answer ``number``, if it is in progress."""
        self._batch.remove(number)
        self._stops.pop(number, None)


def _settings(wish: Wish) -> AnswerSettings:
    drawing = (wish.temperature, wish.top_p, wish.seed) if wish.temperature else None
    return AnswerSettings(wish.most, drawing, greedy=wish.temperature == 0)


def stream_answer(predictor: Predictor, sample: Sample, task: str, wish: Wish = AS_TRAINED) -> Iterator[str | bool]:
    """Yield the answer of ``task`` of a model to the row ``sample``, piece by piece, and last whether it ended by itself.

    Args:
        predictor: The model.
        sample: The row, encoded.
        task: The name of a task that converses.
        wish: How it is generated.
    """
    answers = GeneratedAnswers(predictor, task)
    answers.add([(sample, wish)])
    while True:
        for _, piece in answers.advance():
            yield piece
            if isinstance(piece, bool):
                return


class StopTexts:
    """Ends an answer at the first of some texts. What may be the beginning of one is held back until it is known not to be.

    Args:
        texts: The texts; they are not part of the answer.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self._held = tuple(texts), ""

    def push(self, piece: str | bool) -> list[str | bool]:
        """Return what follows from ``piece`` of an answer, whose last is whether it ended by itself: text, and last, where
        the answer is over, whether it ended by itself or at a stop text."""
        if isinstance(piece, bool):
            return [self._held, piece] if self._held else [piece]
        held = self._held + piece
        places = [at for text in self.texts if (at := held.find(text)) >= 0]
        if places:
            return [held[: min(places)], True] if min(places) else [True]
        kept = max((n for text in self.texts for n in range(1, len(text)) if held.endswith(text[:n])), default=0)
        self._held = held[len(held) - kept :]
        return [held[: len(held) - kept]] if len(held) > kept else []


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
        warn: Receives, once each, what a question names but nobody shows, and values that training did not have.
    """

    def __init__(
        self, predictor: Predictor, media: Opener | None = None, warn: Callable[[str], None] = lambda _: None
    ) -> None:
        self.predictor, self.warn = predictor, warn
        self._warned: set[str] = set()
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

    def attach(self, kind: str, cell: Any) -> None:
        """Show ``cell``, a medium of ``kind`` (``image``, ``audio``, ``video``), in the first input column of that kind
        that shows nothing yet, or as one more in a column that holds several.

        Raises:
            ConfigError: There is no such column.
        """
        columns = [column for column in self.predictor.schema.inputs if column.of is None]
        own = [column.name for column in columns if column.spec["kind"] == kind]
        several = [column.name for column in columns if column.spec["kind"] == f"{kind}s"]
        free = [name for name in own if name not in self.cells]
        if free:
            self.cells[free[0]] = cell
        elif several:
            held = self.cells.setdefault(several[0], [])
            if not isinstance(held, list):
                raise ConfigError(f"the column {several[0]!r} shows something already", fix="show all of them there")
            self.cells[several[0]] = [*held, cell]
        elif own:
            raise ConfigError(f"this model takes {counted(len(own), 'input')} of kind {kind}: {', '.join(own)}")
        else:
            named = ", ".join(f"{column.name} ({column.spec['kind']})" for column in columns)
            raise ConfigError(f"this model takes no {kind}; its inputs are {named}")

    def show(self, cells: Mapping[str, Any]) -> None:
        """Show media, and anything else of a row: ``cells`` by column, as in a table."""
        inputs = {column.name: column for column in self.predictor.schema.inputs}
        names = [name for name, column in inputs.items() if column.of is None]
        for name, cell in cells.items():
            if name not in inputs:
                raise ConfigError(f"no input column named {name!r}{nearest(name, names)}")
            if name not in names:
                raise ConfigError(f"the column {name!r} is read from the cells of {inputs[name].of!r}: show those")
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
        sample = self.predictor.schema.encode(row, media=self.media, problems=problems, strange=True)
        if unusable := next((problem for problem in problems if problem.missing), None):
            raise DataError(unusable.problem, file=unusable.file, column=unusable.column, fix=unusable.fix)
        for note in [*map(str, problems), *self._overlooked(text, sample)]:
            if note not in self._warned:
                self._warned.add(note)
                self.warn(note)
        return turns, sample

    def _overlooked(self, text: str, sample: Sample) -> Iterator[str]:
        """What the question ``text`` about ``sample`` names, but the model does not read."""
        places = self.predictor.model.tasks[self.name].prompt_places
        said = [turn["content"] for turn in self.turns if turn["role"] == "user"]
        shown = [name for name in places if not self._is_empty(name, sample)]  # other places are left out of every turn
        for name in unplaced("\n".join([*said, text]), shown):
            if name in places and name not in shown:
                continue
            if f"<{name}>" in text:
                listed = ", ".join(f"<{place}>" for place in places)
                second = f"a second <{name}> is read as text"
                yield second if name in places else f"<{name}> is read as text: places of media are {listed}"
        for name in places:
            if f"<{name}>" in text and name not in shown:
                yield f"<{name}> is left out: nothing is shown there"

    def _is_empty(self, place: str, sample: Sample) -> bool:
        columns = self.predictor.schema.streams.get(place, ())
        return bool(columns) and all(sample[column.name] is None for column in columns)

"""A conversation with a model that answers in words: its turns, its media, and the answer as it is generated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """

    most: int | None = None
    temperature: float | None = None
    top_p: float = 1.0
    seed: int = 0


AS_TRAINED = Wish()
"""As the task has it."""


def conversing(model: Model) -> tuple[str, Task[Any]] | None:
    """Return the task of ``model`` that answers questions piece by piece, with its name; None if it has none."""
    tasks = ((name, task) for name, task in model.tasks.items() if task.converses and task.goal.prompts)
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
    yield from predictor.model.tasks[task].stream_answer(
        output, most=wish.most, drawing=drawing, greedy=wish.temperature == 0
    )


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

    def ask(self, text: str) -> Iterator[str]:
        """Say ``text`` and yield the answer piece by piece; afterwards both are turns of the conversation.

        Raises:
            DataError: A medium cannot be used.
        """
        turns = [*self.turns, {"role": "user", "content": text}]
        problems: list[Problem] = []
        row = {**self.cells, self.prompt: turns}
        sample = self.predictor.schema.encode(row, media=self.media, problems=problems)
        if problems:
            raise DataError(problems[0].problem, column=problems[0].column)
        answer = ""
        for piece in stream_answer(self.predictor, sample, self.name):
            if isinstance(piece, str):
                answer += piece
                yield piece
        self.turns = [*turns, {"role": "assistant", "content": answer}]

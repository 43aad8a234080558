"""Predictions as files: a line for each row, and pictures, masks and sounds of answers in a folder beside."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from sensorium.core.answer import Answer, Attachment, light
from sensorium.data.attachment import encoded
from sensorium.model import Model
from sensorium.predictor import Prediction


class MediaFolder:
    """Where the media of answers are put, as files of their own: ``predictions_media/7-mask.png``.

    Args:
        table: The file of the predictions; paths are written relative to it.
    """

    def __init__(self, table: Path) -> None:
        self.folder = table.with_name(f"{table.stem}_media")

    def kept(self, value: Any, row: int, name: str) -> Any:
        """An answer with each medium written to a file, and its path in its place."""
        if isinstance(value, Attachment):
            self.folder.mkdir(exist_ok=True)
            path = self.folder / f"{row}-{''.join(c if c.isalnum() else '_' for c in name)}{value.suffix}"
            path.write_bytes(encoded(value))
            return f"{self.folder.name}/{path.name}"
        if isinstance(value, dict):
            return {key: self.kept(item, row, f"{name}-{key}") for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.kept(item, row, f"{name}-{i}") for i, item in enumerate(value)]
        return value

    def answers(self, prediction: Prediction, row: int) -> dict[str, Answer]:
        """By task, the answer with its media written."""
        return {
            name: {key: self.kept(value, row, name if key == "value" else f"{name}-{key}") for key, value in answer.items()}
            for name, answer in prediction.targets.items()
        }


def write(path: Path, found: Iterable[Prediction], model: Model) -> None:
    """Predictions as a ``.csv`` or ``.jsonl`` file, whole or not at all."""
    part, media = path.with_name(f".{path.name}.part"), MediaFolder(path)
    with open(part, "w", newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            write_csv(file, found, model, media)
        else:
            for row, prediction in enumerate(found, 1):
                document = {**prediction.to_json(), "targets": media.answers(prediction, row)}
                file.write(json.dumps(document, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_csv(file: IO[str], found: Iterable[Prediction], model: Model, media: MediaFolder | None = None) -> None:
    """A line a prediction: the answer of each task, a probability for each class, and what was missing.

    A list of words or numbers is joined by ``;``, what has more structure is JSON, a medium is the path of its file.
    ``media``: where those go; without it a medium is only named.
    """
    writer = csv.writer(file)
    labels = {name: task.labels for name, task in model.tasks.items()}
    header = [column for name, classes in labels.items() for column in (name, *(f"{name}={label}" for label in classes))]
    writer.writerow([*header, "missing"])
    for row, prediction in enumerate(found, 1):
        answers = light(prediction.targets) if media is None else media.answers(prediction, row)
        cells = [cell for name, classes in labels.items() for cell in _cells(answers[name], classes)]
        writer.writerow([*cells, " ".join(prediction.missing)])


def _cells(answer: Answer, classes: Iterable[str]) -> Iterator[Any]:
    value = answer["value"]
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)):
        yield json.dumps(value, ensure_ascii=False)
    else:
        yield ";".join(map(str, value)) if isinstance(value, list) else value
    for label in classes:
        yield f"{answer['probabilities'][label]:.6g}"

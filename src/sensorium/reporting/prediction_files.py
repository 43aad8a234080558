"""Prediction files: CSV or JSON Lines, with predicted images, masks and audio in a folder beside the file."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

from sensorium.core.answer import Answer, Attachment, without_media
from sensorium.core.modality import Blob
from sensorium.data.files.attachment_files import encode_attachment
from sensorium.data.shards.references import Packed
from sensorium.model import Model
from sensorium.predictor import Prediction


class MediaFolder:
    """The folder for predicted media, one file each: ``predictions_media/7-mask.png``.

    Args:
        table: The prediction file; paths are written relative to it.
    """

    def __init__(self, table: Path) -> None:
        self.folder = table.with_name(f"{table.stem}_media")

    def kept(self, value: Any, row: int, name: str) -> Any:
        """Write the media in ``value`` to files and return it with paths in their place.

        Args:
            value: A prediction, possibly nested.
            row: The row's number, for the file name.
            name: The target, for the file name.
        """
        if isinstance(value, Attachment):
            self.folder.mkdir(exist_ok=True)
            path = self.folder / f"{row}-{''.join(c if c.isalnum() else '_' for c in name)}{value.suffix}"
            path.write_bytes(encode_attachment(value))
            return f"{self.folder.name}/{path.name}"
        if isinstance(value, dict):
            return {key: self.kept(item, row, f"{name}-{key}") for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.kept(item, row, f"{name}-{i}") for i, item in enumerate(value)]
        return value

    def answers(self, prediction: Prediction, row: int) -> dict[str, Answer]:
        """Return the answers of ``prediction`` by task, with the media of ``row`` replaced by paths of files written."""
        return {
            name: {key: self.kept(value, row, name if key == "value" else f"{name}-{key}") for key, value in answer.items()}
            for name, answer in prediction.targets.items()
        }


@dataclass(frozen=True)
class KeptColumns:
    """Columns written beside each prediction to identify it: the row's number and selected cells.

    Args:
        rows: The table's rows, in order; read only if ``keep`` is not empty.
        keep: The columns to copy.
        first: The number of the first row.
    """

    rows: Iterable[Mapping[str, Any]] = ()
    keep: Sequence[str] = ()
    first: int = 1

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        rows: Iterator[Mapping[str, Any]] = iter(self.rows) if self.keep else iter(())
        for number in count(self.first):
            row = next(rows, {})
            yield number, {name: _kept(row.get(name)) for name in self.keep}


def _kept(cell: Any) -> Any:
    """A cell as it is written; media are replaced by their names."""
    cell = cell.name if isinstance(cell, (Blob, Packed)) else cell
    return cell if cell is None or isinstance(cell, (str, bool, int, float)) else str(cell)[:200]


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(cell: Any) -> Any:
    """Escape ``cell`` against formula injection: text that begins like a formula is prefixed with ``'``.

    Plain numbers are kept.
    """
    if not isinstance(cell, str) or not cell.startswith(_FORMULA) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def write(
    path: Path,
    predictions: Iterable[Prediction],
    model: Model,
    beside: KeptColumns | None = None,
    *,
    raw_cells: bool = False,
    by_step: bool = False,
) -> None:
    """Write predictions atomically to a ``.csv`` or ``.jsonl`` file, with predicted media in a folder beside it.

    Args:
        path: The file to write.
        predictions: The predictions, in row order.
        model: The model that made them.
        beside: Columns to write beside each prediction.
        raw_cells: Whether to write text cells of CSV unescaped.
        by_step: Whether a list in a CSV takes a line for each of its items.
    """
    part, media = path.with_name(f".{path.name}.part"), MediaFolder(path)
    try:
        with open(part, "w", newline="", encoding="utf-8") as file:
            if path.suffix == ".csv":
                write_csv(file, predictions, model, beside, media, raw_cells=raw_cells, by_step=by_step)
            else:
                for prediction, (number, kept) in zip(predictions, beside or KeptColumns(), strict=False):
                    answers = {"targets": media.answers(prediction, number)}
                    line = {"row": number, **({"keep": kept} if kept else {}), **prediction.to_json(), **answers}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_csv(
    file: IO[str],
    predictions: Iterable[Prediction],
    model: Model,
    beside: KeptColumns | None = None,
    media: MediaFolder | None = None,
    *,
    raw_cells: bool = False,
    by_step: bool = False,
) -> None:
    """Write predictions as CSV: row, copied columns, and for each task its answer, the chances of classes and what else
    it answers (``Task.answer_columns``); then missing streams.

    Lists of words or numbers are joined by ``;``, deeper structures are JSON, media are paths of files.

    Args:
        file: The open file.
        predictions: The predictions, in row order.
        model: The model that made them.
        beside: Columns to write beside each prediction.
        media: Where media are written; None names them only.
        raw_cells: Whether to write text cells unescaped; otherwise ``escape_formula`` is applied.
        by_step: Whether an answer that is a list, such as a forecast, takes a line for each of its items.
    """
    beside = beside or KeptColumns()
    writer = csv.writer(file)
    predictions = iter(predictions)
    first = next(predictions, None)
    columns: list[tuple[str, tuple[str, ...]]] = []
    header: list[str] = []
    for name, task in model.tasks.items():
        paths = [("value",), *(("probabilities", label) for label in task.labels)]
        header += [name, *(f"{name}={label}" for label in task.labels)]
        for column, path in task.answer_columns.items():
            if first is None or path[0] in first.targets[name]:
                paths.append(path)
                header.append(f"{name}.{column}")
        columns += [(name, path) for path in paths]
    safe = (lambda cell: cell) if raw_cells else escape_formula
    writer.writerow(map(safe, ["row", *beside.keep, *(["step"] if by_step else []), *header, "missing"]))
    for prediction, (number, kept) in zip(chain([] if first is None else [first], predictions), beside, strict=False):
        answers = without_media(prediction.targets) if media is None else media.answers(prediction, number)
        values = [_value_at(answers[name], path) for name, path in columns]
        steps = max((len(value) for value in values if isinstance(value, list)), default=0)
        lines: Iterable[tuple[list[Any], list[Any]]] = [([None] if by_step else [], values)]
        if by_step and steps:
            lines = (
                ([k + 1], [value[k : k + 1] if isinstance(value, list) else value for value in values])
                for k in range(steps)
            )
        for step, line in lines:
            cells = [_cell(value, path) for value, (_, path) in zip(line, columns, strict=True)]
            writer.writerow(map(safe, [number, *kept.values(), *step, *cells, " ".join(prediction.missing)]))


def _value_at(answer: Answer, path: Sequence[str]) -> Any:
    """The part of an answer at ``path``, None where it has none."""
    value: Any = answer
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _cell(value: Any, path: Sequence[str]) -> Any:
    """A part of an answer as a cell."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return ";".join(map(str, value))
    return f"{value:.6g}" if path[0] == "probabilities" else value

"""Fitting of parts that learn by other means than gradient descent: encoders before training, tasks and simple methods
after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sensorium.core.batch import Batch, Encoded, Field, joined
from sensorium.core.contracts import Encoder
from sensorium.core.expert import CHUNK
from sensorium.core.forward import Forward
from sensorium.core.schema import Schema
from sensorium.core.task import EncodedRows, Task
from sensorium.data import encoded_rows as encoded
from sensorium.data.loader import Loader
from sensorium.model import Model
from sensorium.reporting.console import Console

MOST_ROWS = 5_000
"""Training rows to which simple methods are fitted, at most."""


def fit_encoders(model: Model, schema: Schema, rows: encoded.Rows) -> list[str]:
    """Fit data-dependent encoders of ``model`` on the training ``rows`` (columns: ``schema``); return their notes."""
    notes = []
    for stream, encoder in model.encoders.items():
        if type(encoder).fit is not Encoder.fit:
            encoder.fit(_fields(schema, rows, stream))
            if note := encoder.notes():
                notes.append(f"{stream}: {note}")
    return notes


def _fields(schema: Schema, rows: encoded.Rows, stream: str) -> Iterator[Field]:
    for batch in Loader(rows, 256):
        field = schema.prepare(batch).inputs[stream]
        if bool(field.present.any()):
            yield field.map(partial(_select, keep=field.present))


def _select(tensor: Tensor, keep: Tensor) -> Tensor:
    return tensor[keep]


def fit_tasks(model: Model, schema: Schema, rows: encoded.Rows) -> list[str]:
    """Fit the tasks of ``model`` on the targets and prompts of training ``rows`` (columns: ``schema``); return notes."""
    notes = []
    for name, task in model.tasks.items():
        task.fit(encoded.target_fields(schema, rows, task))
        has_prompts = bool(task.goal.prompts) and type(task).fit_prompts is not Task.fit_prompts
        if has_prompts and (note := task.fit_prompts(_prompts_and_targets(schema, rows, task))):
            notes.append(f"{name}: {note}")
    return notes


def _prompts_and_targets(schema: Schema, rows: encoded.Rows, task: Task[Any]) -> Iterator[tuple[dict[str, Field], Field]]:
    for start in range(0, len(rows), encoded.FEW):
        index = np.arange(start, min(start + encoded.FEW, len(rows)), dtype=np.int64)
        columns = schema.columns
        targets = {
            name: columns[name].reader.prepare_target(rows.targets[name].gather(index)) for name in task.goal.targets
        }
        prompts = {name: columns[name].reader.prepare(rows.prompts[name].gather(index)) for name in task.goal.prompts}
        target = task.target(Batch({}, targets, torch.from_numpy(rows.weight[index]), prompts))
        if target is not None:
            yield prompts, target


class _Prepared:
    """Prepared training rows that can be iterated several times, evenly spaced where there are many."""

    def __init__(self, schema: Schema, rows: encoded.Rows) -> None:
        count = min(len(rows), MOST_ROWS)
        some = np.linspace(0, max(len(rows) - 1, 0), count).round().astype(np.int64)
        self.schema, self.rows = schema, rows.take(some) if count < len(rows) else rows

    def __iter__(self) -> Iterator[Batch]:
        for batch in Loader(self.rows, CHUNK):
            yield self.schema.prepare(batch)


def fit_simple_methods(
    model: Model, schema: Schema, rows: encoded.Rows, console: Console, valid: encoded.Rows | None = None
) -> None:
    """Fit the simple methods that tasks of a trained model are compared with or that count in their answers.

    Args:
        model: The trained model.
        schema: The fitted columns.
        rows: Training rows, of which up to 5,000 are used.
        console: Where notes are printed.
        valid: Validation rows, from which weights are learnt; None keeps those that the model has.
    """
    model.eval()
    for name, task in model.tasks.items():
        if type(task).fit_simple is not Task.fit_simple:
            held_out = () if valid is None else _with_outputs(model, name, _Prepared(schema, valid))
            if note := task.fit_simple(_Prepared(schema, rows), held_out):
                console.note(f"  {name}: {note}")


@torch.no_grad()
def _with_outputs(model: Model, name: str, rows: Iterable[Batch]) -> Iterator[tuple[Batch, Any]]:
    for batch in rows:
        yield batch, Forward(model, batch).outputs[name]


def settle_tasks(model: Model, schema: Schema, rows: encoded.Rows, valid: encoded.Rows) -> None:
    """Fit the tasks of ``model`` that learn from its outputs, on ``rows`` and ``valid`` (columns: ``schema``)."""
    tasks = {name: task for name, task in model.tasks.items() if task.fits_after_training}
    if not tasks:
        return
    outputs = [_network_outputs(model, schema, part) for part in (rows, valid)]
    for name, task in tasks.items():
        task.fit_after_training(*(part[name] for part in outputs))


@torch.no_grad()
def _network_outputs(model: Model, schema: Schema, rows: encoded.Rows) -> dict[str, EncodedRows]:
    """Return the fused and stream vectors of all rows, by target; tokens of all rows would not fit in memory."""

    def vectors(part: Encoded) -> Encoded:
        return Encoded(part.pooled.unsqueeze(1), part.present.unsqueeze(1), part.pooled, part.present)

    batches = []
    for batch in Loader(rows, 256):
        run = Forward(model, schema.prepare(batch))
        streams = {name: vectors(part) for name, part in run.streams.items()}
        targets = {name: run.target(name) for name, task in model.tasks.items() if task.fits_after_training}
        batches.append((vectors(run.fused), streams, targets, run.batch.weight, run.prompts))
    fused, streams, known, weight, prompts = joined(batches)
    return {name: EncodedRows(fused, streams, target, weight, prompts) for name, target in known.items()}

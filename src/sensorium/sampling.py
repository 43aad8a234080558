"""Sampling of new rows from a generative model, under conditions that the caller sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch

from sensorium.core.answer import Attachment
from sensorium.core.batch import Batch
from sensorium.core.cell_content import Opener
from sensorium.core.errors import ConfigError, DataError, nearest
from sensorium.core.forward import Forward
from sensorium.core.schema import Problem, Record
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.made_rows import marked
from sensorium.data.tables.table import Table
from sensorium.predictor import Predictor

CHUNK = 64
"""Number of rows made at a time."""


class HasPredictor(Protocol):
    """A trained model with a predictor."""

    @property
    def predictor(self) -> Predictor:
        """The model, ready."""


class Sampling:
    """Mixin of trained models that make rows: ``sample``."""

    def sample(
        self: HasPredictor,
        n: int = 1,
        *,
        given: Mapping[str, Any] | None = None,
        rows: Any = None,
        seed: int = 0,
        media: str | Path | None = None,
    ) -> list[dict[str, Any]]:
        """Return new rows, each with its conditions and the made cells; ``fit`` reads them.

        Made media are arrays: ``[H, W]`` or ``[H, W, 3]`` uint8, ``[samples]`` float. A column ``made_by_sensorium`` marks
        the rows. The same call gives the same rows on the same machine; the row at a place does not depend on ``n``.

        Args:
            n: Number of rows; with ``rows``, for each of them.
            given: Conditions by input column, the same for all rows: ``{"label": 7}``. Columns that are not named are
                missing.
            rows: A table of conditions, in place of ``given`` or beside it.
            seed: Random seed.
            media: Folder of relative media paths in the conditions.

        Raises:
            ConfigError: The model makes no rows, or a condition is not one of its inputs.
            DataError: A condition cannot be read.
        """
        made = sample_rows(self.predictor, n, given=given, rows=rows, seed=seed, media=media)
        return [{name: cell.data if isinstance(cell, Attachment) else cell for name, cell in row.items()} for row in made]


def sample_rows(
    predictor: Predictor,
    n: int,
    *,
    given: Mapping[str, Any] | None = None,
    rows: Any = None,
    seed: int = 0,
    media: str | Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Return an iterator over new rows, whose media are an ``Attachment`` each.

    Args:
        predictor: A trained model.
        n: Number of rows; with ``rows``, for each of them.
        given: Conditions by input column.
        rows: A table of conditions.
        seed: Random seed.
        media: Folder of relative media paths in the conditions.

    Raises:
        ConfigError: The model makes no rows, or a condition is not one of its inputs.
    """
    model = predictor.model
    makers = [name for name, task in model.tasks.items() if task.generated_columns]
    if not makers:
        raise ConfigError(
            f"the model makes no rows: it is trained for {', '.join(model.tasks)}",
            fix="train one with --task generation --target COLUMN",
        )
    if n < 1:
        raise ConfigError(f"{n} rows were requested", fix="1 or more")
    known = [column.source for column in predictor.schema.read]
    for name in given or {}:
        if name not in known:
            raise ConfigError(
                f"{name!r} is not an input of the model{nearest(name, known)}", fix=f"conditions: {', '.join(known)}"
            )
    table = None if rows is None else Table.read(rows, root=media)
    root = Path(media) if media is not None else table.root if table is not None and table.root else Path.cwd()
    conditions = _conditions(n, given or {}, table, known)
    return _made(predictor, makers, conditions, seed, LocalFiles(root, anywhere=True))


def _conditions(n: int, given: Mapping[str, Any], table: Table | None, known: list[str]) -> Iterator[dict[str, Any]]:
    for row in [{}] if table is None else table.rows():
        for _ in range(n):
            yield {**{name: row[name] for name in known if name in row}, **given}


def _made(
    predictor: Predictor, makers: list[str], conditions: Iterator[dict[str, Any]], seed: int, opener: Opener
) -> Iterator[dict[str, Any]]:
    done = 0
    while chunk := list(islice(conditions, CHUNK)):
        batch = _encoded(predictor, chunk, done, opener)
        # Far apart for neighbouring seeds, and independent of the number of rows.
        seeds = [(seed * 0x9E3779B1 + place) % (1 << 63) for place in range(done, done + len(chunk))]
        with torch.inference_mode():
            outputs = Forward(predictor.model, batch, least=CHUNK).outputs
            cells = [
                predictor.model.tasks[name].generate_rows(outputs[name], seeds + [0] * (CHUNK - len(chunk)))
                for name in makers
            ]
        for place, row in enumerate(chunk):
            made = {name: cell for task_cells in cells for name, cell in task_cells[place].items()}
            yield marked({**row, **made}, f"{'+'.join(makers)}, seed {seed}, row {done + place + 1}")
        done += len(chunk)


def _encoded(predictor: Predictor, rows: Sequence[Record], first: int, opener: Opener) -> Batch:
    """The conditions of ``rows`` as a prepared batch, padded so that a row does not depend on the others."""
    samples = []
    for place, row in enumerate(rows):
        problems: list[Problem] = []
        samples.append(predictor.schema.encode(row, media=opener, row=first + place + 1, problems=problems, strange=True))
        if problems:
            fix = problems[0].fix or "set a condition that training had"
            raise DataError(problems[0].problem, column=problems[0].column, fix=fix)
    return predictor.batch(samples, CHUNK)

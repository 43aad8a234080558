"""From a request to encoded rows, in one way for every run: declared columns, parts, what modalities learn, the recipe."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.core import quoting
from sensorium.core.errors import CellError, ConfigError, DataError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Opener, Schema, content
from sensorium.data import encoded_rows as encoded
from sensorium.data.files.media_access import Under, weight_of
from sensorium.data.inspection.outliers import targets_told
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table
from sensorium.reporting.cell_problems import say_problems
from sensorium.reporting.console import Console
from sensorium.training.defaults import resolve
from sensorium.training.quality_presets import with_quality
from sensorium.training.table_splits import TableSplits, TestSource, class_sizes, from_table
from sensorium.training.training_request import Request

SAMPLE = 256
"""Media cells that a modality learns its state from (picture size, loudness); table cells are all looked at."""
SAMPLE_BYTES = 512 * 2**20
"""Their bytes together: of long videos fewer are looked at."""


@dataclass(frozen=True)
class PreparedRun:
    """All that a training needs.

    Args:
        request: The recipe as it was asked for, with all that it leaves open: a search resolves it again and again.
        plan: The same, resolved.
        parts: Where the rows come from.
        rows: Encoded rows to learn from; ``valid`` those to choose by, ``test`` those set apart before all others.
        classes: Training rows of each class, by target that has classes.
        trials: The trials that a quality asks for.
        apart: Whether the validation rows are a table that the user set apart, which the last fit leaves alone.
    """

    request: Recipe
    plan: Recipe
    splits: TableSplits
    rows: encoded.Rows
    valid: encoded.Rows
    test: encoded.Rows | None
    store: Store
    classes: Mapping[str, Sequence[int]]
    trials: int | None
    separate_valid: bool = False

    @property
    def schema(self) -> Schema:
        """The fitted columns."""
        return self.splits.schema


def prepare(
    request: Request,
    console: Console,
    *,
    quality: str | None = None,
    check: Callable[[TableSplits, int | None, Recipe], None] | None = None,
    test: TestSource | None = None,
) -> PreparedRun:
    """Declared, split, learnt, resolved and encoded.

    Args:
        quality: How much is spent (``presets``).
        check: Refuses what cannot be done with these parts, so many trials and the resolved recipe, before anything is
            decoded.
        test: Rows to set apart.
    """
    if request.plan.data.stream:
        from sensorium.training.shard_training import from_shards

        if test is not None:
            raise ConfigError("runs are compared on a table in memory", fix="leave out data.stream")
        found = from_shards(request, console)
    else:
        found = from_table(request, console, test)
    schema, training = found.schema, found.training
    fit_modalities(schema, training, Under(training.root or Path.cwd(), anywhere=True), request.plan.seed)
    for line in targets_told(schema, training):
        console.note(f"  {line}")
    classes = class_sizes(schema, training)
    asked, trials, set_by = with_quality(quality, request.with_source(request.plan), schema, found.rows, classes)
    plan, said = resolve(asked, schema, found.rows, classes)
    for line in set_by + said:
        console.note(f"  {line}")
    if check is not None:
        check(found, trials, plan)
    store = Store(Path(request.cache) if request.cache is not None else None)
    if found.stream is not None:
        training = found.stream.decoded_sample(training)
    rows, valid = encode_parts(schema, training, found.held_out, store, console)
    tested = None if found.test is None else encode_test(schema, found.test, store, console)
    return PreparedRun(asked, plan, found, rows, valid, tested, store, classes, trials, request.valid is not None)


def encode_test(schema: Schema, table: Table, store: Store, console: Console) -> encoded.Rows:
    """Rows that are only scored."""
    opener = Under(table.root or Path.cwd(), anywhere=True)
    rows = encoded.encode(schema, table, media=opener, store=store, tell=console.step)
    if schema.targets and not any(bool(rows.known(column.name).any()) for column in schema.targets):
        raise DataError("no test row has a target that the training rows know", file=table.source)
    return rows


def fit_modalities(schema: Schema, table: Table, media: Opener, seed: int = 0) -> None:
    """Fit every modality on training rows: all cells of the table, a sample of its media."""
    for column in schema.coded:
        cells = [(i, cell) for i, cell in enumerate(table.column(column.source)) if not column.reader.missing(cell)]
        if column.reader.media:
            order = np.random.default_rng(seed).permutation(len(cells))
            opened: list[Any] = []
            size = 0
            first: CellError | None = None
            for at in order.tolist():
                row, cell = cells[at]
                try:
                    opened.append(content(column.reader, cell, media, table.number(row), column.name))
                    size += weight_of(opened[-1])
                except CellError as error:
                    first = first or error
                if len(opened) == SAMPLE or size > SAMPLE_BYTES:
                    break
            if not opened and first is not None:
                raise DataError(
                    f"no cell can be opened; the first: {first.problem}",
                    file=first.file,
                    row=first.row,
                    column=column.name,
                    fix="; ".join(filter(None, [first.fix, "name the folder that paths are relative to: --media FOLDER"])),
                )
            column.reader.fit(opened)
        else:
            column.reader.fit([cell for _, cell in cells])


def encode_parts(
    schema: Schema, training: Table, held_out: Table, store: Store, console: Console
) -> tuple[encoded.Rows, encoded.Rows]:
    """Training and validation rows as the model reads them; what could not be used is said or refused."""
    rows, valid = (
        encoded.encode(
            schema,
            table,
            media=Under(table.root or Path.cwd(), anywhere=True),
            store=store,
            workers=os.cpu_count() or 1,
            tell=console.step,
        )
        for table in (training, held_out)
    )
    for column in schema.inputs:
        if told := column.reader.told():
            console.note(f"  {column.name}: {told}")
    say_problems(console, rows.problems + valid.problems)
    _check_usable(schema, training, rows)
    _check_scorable(schema, held_out, valid)
    return rows, valid


def _check_usable(schema: Schema, table: Table, rows: encoded.Rows) -> None:
    """Refuse a column none of whose cells could be used: it is not missing, it is misunderstood."""
    bad = Counter(problem.column for problem in rows.problems)
    for column in schema.coded:
        filled = sum(not column.reader.missing(cell) for cell in table.column(column.source)) if bad[column.name] else 0
        if filled and filled == bad[column.name]:
            p = next(problem for problem in rows.problems if problem.column == column.name)
            raise DataError(
                f"no cell can be used as {column.spec['kind']}; the first: {p.problem}",
                file=p.file or table.source,
                row=p.row,
                column=p.column,
                fix=f"mend the cells, say what they are ({quoting.as_kind(p.column, 'KIND')}), or leave them out: "
                f"{quoting.ignoring([p.column])}",
            )


def _check_scorable(schema: Schema, table: Table, valid: encoded.Rows) -> None:
    """Refuse validation rows that no epoch could be chosen on."""
    if schema.targets and not any(bool(valid.known(column.name).any()) for column in schema.targets):
        names = ", ".join(column.name for column in schema.targets)
        raise DataError(
            f"no row has a target ({names}) that the training rows know",
            file=table.source,
            fix="give validation rows of the same kind, or leave out --valid",
        )

"""Data preparation of every run: declare columns, split rows, fit modalities, resolve the recipe, encode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.core import quoting, registry
from sensorium.core.cell_content import Opener, content
from sensorium.core.cpu_cores import process_cores
from sensorium.core.errors import CellError, ConfigError, DataError
from sensorium.core.goal import task_spec
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.files.media_access import LocalFiles, weight_of
from sensorium.data.inspection.outliers import target_notes
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table
from sensorium.data.window_tables import as_windows
from sensorium.reporting.cell_problems import print_problems
from sensorium.reporting.console import Console
from sensorium.training.base_model import Base
from sensorium.training.defaults import resolve
from sensorium.training.quality_presets import with_quality
from sensorium.training.table_splits import TableSplits, TestSource, class_sizes, from_table
from sensorium.training.training_request import Request
from sensorium.training.window_cutting import cut

SAMPLE = 256
"""Maximum number of media cells that a modality is fitted on (picture size, loudness); table cells are all used."""
SAMPLE_BYTES = 512 * 2**20
"""Maximum size of these cells together: of long videos, fewer are used."""


@dataclass(frozen=True)
class PreparedRun:
    """Everything that a training needs.

    Args:
        request: The recipe with its settings left open, for a search to resolve repeatedly.
        plan: The resolved recipe.
        splits: The tables that the rows come from.
        rows: Encoded training rows; ``valid`` are the validation rows, ``test`` the held-out test rows.
        store: The cache of decoded media.
        classes: Number of training rows of each class, for each target with classes.
        trials: The number of search trials that a quality asks for.
        separate_valid: Whether the user gave a validation table, which the final fit does not train on.
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
    """Declare columns, split rows, fit modalities, resolve the recipe and encode all rows.

    Args:
        request: The data and the recipe as the user gave them.
        console: Where notes and progress are printed.
        quality: Training effort (``quality_presets``).
        check: Called with the splits, the number of trials and the resolved recipe before anything is decoded; raises for
            what cannot be done.
        test: Test rows to hold out.
    """
    for name, spec in request.plan.model.tasks.items():
        own = dict(task_spec(name, spec).spec)
        if (kind := own.pop("kind", None)) is not None:  # checked first: reading the table may take minutes
            registry.find("tasks", str(kind)).check_sources(own)
    if request.plan.data.windows is not None and test is not None and test.source is None:
        raise ConfigError("rows cannot be held out at random from windows over time", fix="give a later table: --test")
    request = cut(request, console)
    if test is not None and test.source is not None:
        later = Table.read(test.source, root=request.media)
        test = test._replace(source=as_windows(later, request.plan.data.windows, future=True))
    if request.plan.data.stream:
        from sensorium.training.shard_training import from_shards

        if test is not None:
            raise ConfigError("runs are compared on a table in memory", fix="leave out data.stream")
        splits = from_shards(request, console)
    else:
        splits = from_table(request, console, test)
    request = request if splits.plan is None else replace(request, plan=splits.plan)
    schema, training = splits.schema, splits.training
    requested, known = request.plan, frozenset[str]()
    if (base := Base.of(requested)) is not None:
        known = frozenset(base.carry(schema))
        for line in base.notes(requested, schema):
            console.note(f"  {line}")
        requested = base.with_model(requested, schema)
    opener = LocalFiles(training.root or Path.cwd(), anywhere=True)
    fit_modalities(schema, training, opener, requested.seed, known)
    for line in target_notes(schema, training):
        console.note(f"  {line}")
    classes = class_sizes(schema, training)
    recipe, trials, quality_notes = with_quality(quality, request.with_source(requested), schema, splits.rows, classes)
    plan, notes = resolve(recipe, schema, splits.rows, classes)
    for line in quality_notes + notes:
        console.note(f"  {line}")
    if check is not None:
        check(splits, trials, plan)
    store = Store(Path(request.cache) if request.cache is not None else None)
    if splits.stream is not None:
        training = splits.stream.decoded_sample(training)
    rows, valid = encode_parts(schema, training, splits.held_out, store, console)
    test_rows = None if splits.test is None else encode_test(schema, splits.test, store, console)
    return PreparedRun(recipe, plan, splits, rows, valid, test_rows, store, classes, trials, request.valid is not None)


def encode_test(schema: Schema, table: Table, store: Store, console: Console) -> encoded.Rows:
    """Encode the test rows of ``table`` with the fitted ``schema``, through the cache ``store``; ``console`` shows
    progress.
    """
    opener = LocalFiles(table.root or Path.cwd(), anywhere=True)
    rows = encoded.encode(schema, table, media=opener, store=store, progress=console.step)
    if schema.targets and not any(bool(rows.known(column.name).any()) for column in schema.targets):
        raise DataError("no test row has a target value that occurs in the training rows", file=table.source)
    return rows


def fit_modalities(
    schema: Schema, table: Table, media: Opener, seed: int = 0, known: Collection[str] = frozenset()
) -> None:
    """Fit every modality of ``schema`` on the training ``table``: all cells of the table, a sample of its media.

    ``media`` opens media files; ``seed`` draws the sample. The columns ``known`` are fitted already.
    """
    for column in schema.coded:
        if column.name in known:
            continue
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
    """Encode ``training`` and ``held_out`` rows with the fitted ``schema``, through the cache ``store``.

    Unusable cells are reported on ``console``, or refused where nothing else is left.
    """
    rows, valid = (
        encoded.encode(
            schema,
            table,
            media=LocalFiles(table.root or Path.cwd(), anywhere=True),
            store=store,
            workers=process_cores(),
            progress=console.step,
        )
        for table in (training, held_out)
    )
    lying = [column for column in schema.targets if column.on is not None]
    for column in [*schema.inputs, *lying]:
        if note := column.reader.notes():
            console.note(f"  {column.name}: {note}")
    for column in lying:
        for doubt in column.reader.doubts:
            console.warn(f"column {column.name!r}: {doubt}")
    print_problems(console, rows.problems + valid.problems)
    _check_usable(schema, training, rows)
    _check_scorable(schema, held_out, valid)
    return rows, valid


def _check_usable(schema: Schema, table: Table, rows: encoded.Rows) -> None:
    """Refuse a column none of whose cells could be used: its kind is probably wrong."""
    bad = Counter(problem.column for problem in rows.problems if problem.missing)
    for column in schema.coded:
        filled = sum(not column.reader.missing(cell) for cell in table.column(column.source)) if bad[column.name] else 0
        if filled and filled == bad[column.name]:
            p = next(problem for problem in rows.problems if problem.column == column.name and problem.missing)
            kind, left_out = quoting.as_kind(p.column, "KIND"), quoting.ignoring([p.column])
            others = f"name their kind ({kind}), or leave them out: {left_out}"
            raise DataError(
                f"no cell can be used as {column.spec['kind']}; the first: {p.problem}",
                file=p.file or table.source,
                row=p.row,
                column=p.column,
                fix=f"{p.fix}; or {others}" if p.fix else f"correct the cells, {others}",
            )


def _check_scorable(schema: Schema, table: Table, valid: encoded.Rows) -> None:
    """Refuse validation rows without a known target, on which no epoch could be chosen."""
    if schema.targets and not any(bool(valid.known(column.name).any()) for column in schema.targets):
        names = ", ".join(column.name for column in schema.targets)
        raise DataError(
            f"no row has a target value ({names}) that occurs in the training rows",
            file=table.source,
            fix="give validation rows of the same kind, or leave out --valid",
        )

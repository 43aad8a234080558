"""Reading, declaring and splitting of tables into training, validation and test rows, before anything is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sensorium.core import registry
from sensorium.core.errors import ConfigError, DataError, listed
from sensorium.core.goal import task_spec
from sensorium.core.plurals import counted
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.inspection.unreadable_formats import unread_columns
from sensorium.data.made_rows import made_rows
from sensorium.data.splitting import split
from sensorium.data.tables.table import Table
from sensorium.reporting.console import Console
from sensorium.training.base_model import Base
from sensorium.training.column_declaration import check_targets, declare
from sensorium.training.defaults import with_encoder_columns
from sensorium.training.shard_source import ShardSource
from sensorium.training.training_request import Request

MANY_COLUMNS, SHOWN_COLUMNS = 100, 4
"""Number of columns above which similar ones share a line of output, and how many of them are then named."""


@dataclass(frozen=True)
class TableSplits:
    """The tables of a run: training, validation and test rows, with the declared columns.

    Args:
        schema: The declared columns.
        training: The training rows; of a stream, a sample of them.
        held_out: The validation rows.
        rows: The number of training rows.
        stream: The shards that batches come from, if not from ``training``.
        test: Test rows, held out before the validation rows.
        plan: The recipe, where the table completes it: with the target that it names.
    """

    schema: Schema
    training: Table
    held_out: Table
    rows: int
    stream: ShardSource | None = None
    test: Table | None = None
    plan: Recipe | None = None


class TestSource(NamedTuple):
    """Where test rows come from: a table, or a share ``part`` of the training table."""

    source: Any
    part: float


def read_table(source: Any, request: Request, console: Console) -> Table:
    """Read the table ``source`` of a ``request``; notes of the reader go to ``console``. Refuses a table without rows."""
    table = Table.read(source, root=request.media)
    for note in table.notes:
        console.warn(note)
    if not len(table):
        raise DataError("the table has no rows", file=table.source)
    return table


def declare_columns(table: Table, request: Request, console: Console) -> Schema:
    """Declare and check the columns of ``table`` for a ``request``; print their kinds and the reasons on ``console``."""
    plan = request.plan
    if (base := Base.of(plan)) is not None:
        plan = base.with_columns(plan, table, request.targets, request.roles)
    declared = declare(table, plan, request.targets, request.roles)
    for line in _column_lines(declared.reasons):
        console.note(f"  {line}")
    for stream, columns in declared.schema.streams.items():
        if columns[0].stream is not None:
            console.note(f"  stream {stream}: {len(columns)} columns")
    for doubt in declared.doubts:
        console.warn(doubt)
    for line in unread_columns(
        table, {name: kind for name, (role, kind, _) in declared.reasons.items() if role == "input"}
    ):
        console.warn(line)
    check_targets(declared.schema, table)
    schema, notes = with_encoder_columns(plan, declared.schema)
    for line in notes:
        console.note(f"  {line}")
    return schema


def _column_lines(reasons: Mapping[str, tuple[str, str, str]]) -> Iterator[str]:
    """Yield the role, kind and reason of each column; in wide tables, columns with the same ones share a line."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, reason in reasons.items():
        alike.setdefault(reason if len(reasons) > MANY_COLUMNS else (*reason, name), []).append(name)
    for (role, kind, why, *_), names in alike.items():
        what = " ".join(word for word in (role, kind) if word and word != "input")
        more = f", … {names[-1]}: {len(names):,} columns," if len(names) > SHOWN_COLUMNS else ":"
        yield f"{', '.join(names if len(names) <= SHOWN_COLUMNS else names[:2])}{more} {what} ({why})"


def from_table(request: Request, console: Console, test: TestSource | None) -> TableSplits:
    """Read, declare and split the table of a ``request``; ``test`` rows are held out first. Notes go to ``console``."""
    if request.plan.data.epoch_rows is not None:
        raise ConfigError("data.epoch_rows applies to streams only", fix="leave it out, or read the shards with --stream")
    table = read_table(request.source, request, console)
    request = request.for_table(table.target, table.annotations)
    schema = declare_columns(table, request, console)
    test_rows: Table | None = None
    if test is not None and test.source is not None:
        test_rows = without_made(with_target(read_table(test.source, request, console), schema, request.plan), console)
    elif test is not None:
        table, test_rows = split_off(with_target(table, schema, request.plan), schema, request.plan, test.part)
    training, held_out = train_valid_split(table, request, schema, console)
    return TableSplits(schema, training, held_out, len(training), test=test_rows, plan=request.plan)


def with_target(table: Table, schema: Schema, plan: Recipe) -> Table:
    """Return the rows of ``table`` that have a target of ``schema``; all of them where a task or an objective of ``plan``
    needs none."""
    if any(registry.find("objectives", registry.split(spec)[0]).unlabelled for spec in plan.objectives):
        return table
    if any(not task_spec(name, spec).targets for name, spec in plan.model.tasks.items()):
        return table
    columns = [(c.reader.missing, table.column(c.source)) for c in schema.targets if table.has(c.source)]
    if not columns:
        raise DataError("holds no target column", file=table.source)
    index = [i for i in range(len(table)) if not all(missing(cells[i]) for missing, cells in columns)]
    return table if len(index) == len(table) else table.take(index)


def train_valid_split(table: Table, request: Request, schema: Schema, console: Console) -> tuple[Table, Table]:
    """Return the training and validation rows of ``table``, as ``request`` says; rows without any target are in neither.

    Columns of ``schema`` that the validation table lacks are reported on ``console``.
    """
    plan = request.plan
    table = with_target(table, schema, plan)
    if request.valid is not None:
        held_out = without_made(with_target(read_table(request.valid, request, console), schema, plan), console)
        training = table
    else:
        training, held_out = split_off(table, schema, plan, plan.data.split.part)
    if not len(training) or not len(held_out):
        raise DataError("too few rows to train and validate on", file=table.source, fix="give at least 2 rows per class")
    absent = [c.name for c in schema.read if not held_out.has(c.source)]
    if absent:
        console.warn(f"{held_out.source}: no column {listed(absent)}: taken as missing in every row")
    return training, held_out


def without_made(table: Table, console: Console) -> Table:
    """Return ``table`` without made rows, since scores on made rows say nothing about real ones; warn on
    ``console``."""
    made = made_rows(table)
    if not any(made):
        return table
    console.warn(f"{table.source}: {counted(sum(made), 'made row')} left out: a model is scored on real rows")
    return table.take(i for i, flag in enumerate(made) if not flag)


def split_off(table: Table, schema: Schema, plan: Recipe, part: float) -> tuple[Table, Table]:
    """Split a share ``part`` of the rows off ``table``, as the recipe ``plan`` splits (``schema`` names the target).
    Made rows stay.
    """
    spec = plan.data.split
    made = made_rows(table)
    if any(made):
        real, held_out = split_off(table.take(i for i, flag in enumerate(made) if not flag), schema, plan, part)
        return real.concatenated(table.take(i for i, flag in enumerate(made) if flag)), held_out
    first = next((column.source for column in schema.targets), None)
    rest, held = split(table, part=part, kind=spec.kind, target=first, by=spec.by, seed=plan.seed)
    return table.take(rest), table.take(held)


def class_sizes(schema: Schema, table: Table) -> dict[str, list[int]]:
    """Return the number of rows of ``table`` in each class, for each target of ``schema`` that has classes."""
    sizes = {}
    for column in schema.targets:
        if column.reader.single:
            cells = [str(cell).strip() for cell in table.column(column.source) if not column.reader.missing(cell)]
            sizes[column.name] = list(Counter(cells).values())
    return sizes

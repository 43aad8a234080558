"""From a request to declared columns and to rows to learn from, to choose by and to test on; nothing is decoded yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sensorium.core.errors import ConfigError, DataError, listed
from sensorium.core.goal import task_spec
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.inspection.unreadable_formats import unread_columns
from sensorium.data.splitting import split
from sensorium.data.tables.table import Table
from sensorium.reporting.console import Console
from sensorium.training.column_declaration import check_targets, declare
from sensorium.training.defaults import with_encoder_columns
from sensorium.training.shard_source import ShardSource
from sensorium.training.training_request import Request

MANY_COLUMNS, SHOWN_COLUMNS = 100, 4
"""Columns above which those that are alike are told of together, and how many of them are then named."""


@dataclass(frozen=True)
class TableSplits:
    """What a run learns from: declared columns, what their modalities learn from, validation rows.

    Args:
        training: The training rows; of a stream a sample of them.
        rows: How many training rows there are.
        stream: Where batches come from, if not from ``training``.
        tested: Rows that are set apart before all others.
    """

    schema: Schema
    training: Table
    held_out: Table
    rows: int
    stream: ShardSource | None = None
    test: Table | None = None


class TestSource(NamedTuple):
    """Rows to score on that no run learns from: a table, or a share of the training table."""

    source: Any
    part: float


def read_table(source: Any, request: Request, console: Console) -> Table:
    """A table to learn from or to score on; it has rows. What there is to say of how it was read is said."""
    table = Table.read(source, root=request.media)
    for note in table.notes:
        console.warn(note)
    if not len(table):
        raise DataError("the table has no rows", file=table.source)
    return table


def declare_columns(table: Table, request: Request, console: Console) -> Schema:
    """The columns, said aloud and checked."""
    found = declare(table, request.plan, request.targets, request.roles)
    for line in _column_lines(found.reasons):
        console.note(f"  {line}")
    for stream, columns in found.schema.streams.items():
        if columns[0].stream is not None:
            console.note(f"  stream {stream}: {len(columns)} columns")
    for doubt in found.doubts:
        console.warn(doubt)
    for line in unread_columns(table, {name: kind for name, (role, kind, _) in found.reasons.items() if role == "input"}):
        console.warn(line)
    check_targets(found.schema, table)
    schema, said = with_encoder_columns(request.plan, found.schema)
    for line in said:
        console.note(f"  {line}")
    return schema


def _column_lines(reasons: Mapping[str, tuple[str, str, str]]) -> Iterator[str]:
    """What each column was taken for, and why; many columns of which the same is said share a line."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, said in reasons.items():
        alike.setdefault(said if len(reasons) > MANY_COLUMNS else (*said, name), []).append(name)
    for (role, kind, reason, *_), names in alike.items():
        what = " ".join(word for word in (role, kind) if word and word != "input")
        more = f", … {names[-1]}: {len(names):,} columns," if len(names) > SHOWN_COLUMNS else ":"
        yield f"{', '.join(names if len(names) <= SHOWN_COLUMNS else names[:2])}{more} {what} ({reason})"


def from_table(request: Request, console: Console, test: TestSource | None) -> TableSplits:
    """A table in memory, declared and split; first into test rows and the rest, where some are to be set apart."""
    if request.plan.data.epoch_rows is not None:
        raise ConfigError("data.epoch_rows is of streams", fix="leave it out, or read the shards with --stream")
    table = read_table(request.source, request, console)
    schema = declare_columns(table, request, console)
    test_rows: Table | None = None
    if test is not None and test.source is not None:
        test_rows = with_target(read_table(test.source, request, console), schema, request.plan)
    elif test is not None:
        table, test_rows = split_off(with_target(table, schema, request.plan), schema, request.plan, test.part)
    training, held_out = train_valid_split(table, request, schema, console)
    return TableSplits(schema, training, held_out, len(training), test=test_rows)


def with_target(table: Table, schema: Schema, plan: Recipe) -> Table:
    """The rows that some task can learn from: those that have any target, or all where a task needs none."""
    if any(not task_spec(name, told).targets for name, told in plan.model.tasks.items()):
        return table
    columns = [(c.reader.missing, table.column(c.source)) for c in schema.targets if table.has(c.source)]
    if not columns:
        raise DataError("holds no target column", file=table.source)
    index = [i for i in range(len(table)) if not all(missing(cells[i]) for missing, cells in columns)]
    return table if len(index) == len(table) else table.take(index)


def train_valid_split(table: Table, request: Request, schema: Schema, console: Console) -> tuple[Table, Table]:
    """Training and validation rows; rows that nothing can be learnt from are in neither."""
    plan = request.plan
    table = with_target(table, schema, plan)
    if request.valid is not None:
        training, held_out = table, with_target(read_table(request.valid, request, console), schema, plan)
    else:
        training, held_out = split_off(table, schema, plan, plan.data.split.part)
    if not len(training) or not len(held_out):
        raise DataError("too few rows to train and validate on", file=table.source, fix="give at least 2 rows a class")
    absent = [c.name for c in schema.read if not held_out.has(c.source)]
    if absent:
        console.warn(f"{held_out.source}: no column {listed(absent)}: taken as missing in every row")
    return training, held_out


def split_off(table: Table, schema: Schema, plan: Recipe, part: float) -> tuple[Table, Table]:
    """The table without a share of its rows, and those; chosen as the recipe says validation rows are."""
    spec = plan.data.split
    first = next((column.source for column in schema.targets), None)
    rest, held = split(table, part=part, kind=spec.kind, target=first, by=spec.by, seed=plan.seed)
    return table.take(rest), table.take(held)


def class_sizes(schema: Schema, table: Table) -> dict[str, list[int]]:
    """Training rows of each class, by target that has one of several."""
    found = {}
    for column in schema.targets:
        if column.reader.single:
            cells = [str(cell).strip() for cell in table.column(column.source) if not column.reader.missing(cell)]
            found[column.name] = list(Counter(cells).values())
    return found

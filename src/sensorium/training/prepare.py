"""From what the user gave to encoded rows: the recipe as told, declared columns, parts, what modalities learn."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.console import Console
from sensorium.core.errors import CellError, DataError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Opener, Schema, content
from sensorium.data import rows as encoded
from sensorium.data.media import Under, weight_of
from sensorium.data.split import split
from sensorium.data.store import Store
from sensorium.data.table import Table
from sensorium.trained import say_problems
from sensorium.training.columns import check_targets, declare
from sensorium.training.defaults import advised

if TYPE_CHECKING:
    from sensorium.training.streamed import Streamed

SAMPLE = 256
"""Media cells that a modality learns its state from (picture size, loudness); table cells are all looked at."""
SAMPLE_BYTES = 512 * 2**20
"""Their bytes together: of long videos fewer are looked at."""


@dataclass(frozen=True)
class Parts:
    """What a run learns from: declared columns, what their modalities learn from, validation rows.

    Args:
        training: The training rows; of a stream a sample of them.
        rows: How many training rows there are.
        stream: Where batches come from, if not from ``training``.
    """

    schema: Schema
    training: Table
    held_out: Table
    rows: int
    stream: Streamed | None = None


def planned(
    recipe: Recipe | str | Path | None,
    overrides: Iterable[str],
    seed: int | None,
    time_limit: float | None,
    group: str | None,
    stream: bool = False,
) -> Recipe:
    """The recipe as told: from a file or as it is, with everything said beside it."""
    plan = recipe if isinstance(recipe, Recipe) else Recipe() if recipe is None else Recipe.from_yaml(recipe)
    plan = plan.override(overrides)
    if seed is not None:
        plan = plan.override([f"seed={seed}"])
    if time_limit is not None:
        plan = plan.override([f"training.time_limit={time_limit}"])
    if stream:
        plan = plan.override(["data.stream=true"])
    if group is not None:
        chosen = plan.data.split.model_copy(update={"kind": "group", "by": group})
        plan = plan.model_copy(update={"data": plan.data.model_copy(update={"split": chosen})})
    return plan


def read(source: Any, plan: Recipe, media: str | Path | None) -> Table:
    """The table to learn from; it has rows."""
    table = Table.read(source, root=media or plan.data.media)
    if not len(table):
        raise DataError("the table has no rows", file=table.source)
    return table


def with_columns(plan: Recipe, columns: Mapping[str, str] | None) -> Recipe:
    """The recipe with what the user said of columns."""
    return plan.model_copy(update={"columns": {**plan.columns, **(columns or {})}})


def from_file(plan: Recipe, source: Any) -> Recipe:
    """The recipe with the training table's name, where it has one."""
    if not isinstance(source, (str, os.PathLike)):
        return plan
    return plan.model_copy(update={"data": plan.data.model_copy(update={"train": str(source)})})


def told_roles(ignore: Iterable[str], group: str | None, weight: str | None) -> dict[str, str]:
    """By column, what it is for, where the user said so."""
    roles = dict.fromkeys(ignore, "ignore") | ({group: "group"} if group else {})
    return roles | ({weight: "weight"} if weight else {})


def declared(table: Table, plan: Recipe, targets: list[str], roles: Mapping[str, str], console: Console) -> Schema:
    """The columns, said aloud and checked."""
    found = declare(table, plan, targets, roles)
    for name, (role, kind, reason) in found.reasons.items():
        what = " ".join(word for word in (role, kind) if word and word != "input")
        console.note(f"  {name}: {what} ({reason})")
    for doubt in found.doubts:
        console.warn(doubt)
    check_targets(found.schema, table)
    schema, said = advised(plan, found.schema)
    for line in said:
        console.note(f"  {line}")
    return schema


def from_table(
    source: Any,
    valid: Any,
    plan: Recipe,
    targets: list[str],
    roles: Mapping[str, str],
    media: str | Path | None,
    console: Console,
) -> Parts:
    """A table in memory, declared and split."""
    table = read(source, plan, media)
    schema = declared(table, plan, targets, roles, console)
    training, held_out = parts(table, valid, schema, plan, media, console)
    return Parts(schema, training, held_out, len(training))


def with_target(table: Table, schema: Schema) -> Table:
    """The rows that have any target."""
    columns = [(c.reader.missing, table.column(c.name)) for c in schema.targets if table.has(c.name)]
    if not columns:
        raise DataError("holds no target column", file=table.source)
    index = [i for i in range(len(table)) if not all(missing(cells[i]) for missing, cells in columns)]
    return table if len(index) == len(table) else table.take(index)


def parts(
    table: Table, valid: Any, schema: Schema, plan: Recipe, media: str | Path | None, console: Console
) -> tuple[Table, Table]:
    """Training and validation rows; rows without any target are in neither."""
    table = with_target(table, schema)
    if valid is not None:
        training, held_out = table, with_target(Table.read(valid, root=media or plan.data.media), schema)
    else:
        training, held_out = split_off(table, schema, plan, plan.data.split.part)
    if not len(training) or not len(held_out):
        raise DataError("too few rows to train and validate on", file=table.source, fix="give at least 2 rows a class")
    absent = [c.name for c in schema.inputs if not held_out.has(c.source)]
    if absent:
        console.warn(f"{held_out.source}: no column {', '.join(absent)}: taken as missing in every row")
    return training, held_out


def split_off(table: Table, schema: Schema, plan: Recipe, part: float) -> tuple[Table, Table]:
    """The table without a share of its rows, and those; chosen as the recipe says validation rows are."""
    spec = plan.data.split
    first = schema.targets[0].name
    rest, held = split(table, part=part, kind=spec.kind, target=first, by=spec.by, seed=plan.seed)
    return table.take(rest), table.take(held)


def class_sizes(schema: Schema, table: Table) -> dict[str, list[int]]:
    """Training rows of each class, by target that is a category."""
    found = {}
    for column in schema.targets:
        if column.spec["kind"] == "category":
            cells = [str(cell).strip() for cell in table.column(column.name) if not column.reader.missing(cell)]
            found[column.name] = list(Counter(cells).values())
    return found


def learn(schema: Schema, table: Table, media: Opener, seed: int = 0) -> None:
    """Fit every modality on training rows: all cells of the table, a sample of its media."""
    for column in [*schema.inputs, *schema.targets]:
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
    say_problems(console, rows.problems + valid.problems)
    _usable(schema, training, rows)
    _scorable(schema, held_out, valid)
    return rows, valid


def _usable(schema: Schema, table: Table, rows: encoded.Rows) -> None:
    """Refuse a column none of whose cells could be used: it is not missing, it is misunderstood."""
    bad = Counter(problem.column for problem in rows.problems)
    for column in [*schema.inputs, *schema.targets]:
        filled = sum(not column.reader.missing(cell) for cell in table.column(column.source)) if bad[column.name] else 0
        if filled and filled == bad[column.name]:
            p = next(problem for problem in rows.problems if problem.column == column.name)
            raise DataError(
                f"no cell can be used as {column.spec['kind']}; the first: {p.problem}",
                file=p.file or table.source,
                row=p.row,
                column=p.column,
                fix=f"mend the cells, say what they are (--as {p.column}=KIND), or leave them out: --ignore {p.column}",
            )


def _scorable(schema: Schema, table: Table, valid: encoded.Rows) -> None:
    """Refuse validation rows that no epoch could be chosen on."""
    if not any(bool(valid.target(column.name).present.any()) for column in schema.targets):
        names = ", ".join(column.name for column in schema.targets)
        raise DataError(
            f"no row has a target ({names}) that the training rows know",
            file=table.source,
            fix="give validation rows of the same kind, or leave out --valid",
        )

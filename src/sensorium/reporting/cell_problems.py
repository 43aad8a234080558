"""Warnings and errors about unusable cells."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from sensorium.core import quoting
from sensorium.core.errors import DataError
from sensorium.core.plurals import counted
from sensorium.core.problem import Problem, problem_lines
from sensorium.core.schema import Schema
from sensorium.data.tables.table import Table
from sensorium.reporting.console import Console

COLUMNS = 20
"""Maximum number of columns whose problems are listed."""


def print_problems(console: Console, problems: Sequence[Problem], shown: int = 3) -> None:
    """Warn about unusable cells and values unseen in training, by column.

    Args:
        console: Where to print the warnings.
        problems: The problems.
        shown: Number of problems quoted for each column.
    """
    by_column: dict[tuple[str, bool], list[Problem]] = {}
    for problem in problems:
        by_column.setdefault((problem.column, problem.missing), []).append(problem)
    for (column, missing), own_problems in islice(by_column.items(), COLUMNS):
        if missing:
            singular, plural = (
                "cell could not be used and counts as missing",
                "cells could not be used and count as missing",
            )
        else:
            singular, plural = "cell was read as a different value", "cells were read as different values"
        console.warn(f"column {column!r}: {counted(len(own_problems), singular, plural)}")
        for line in problem_lines(own_problems[:shown]):
            console.warn(line)
    if len(by_column) > COLUMNS:
        console.warn(f"the same in {counted(len(by_column) - COLUMNS, 'more column')}")


def unscored(table: Table, problems: Sequence[Problem], schema: Schema) -> DataError:
    """Return the error for a table of which no row could be scored.

    Args:
        table: The table.
        problems: The problems of its cells.
        schema: The model's schema.
    """
    if not len(table):
        return DataError("holds no rows, so there is nothing to score", file=table.source)
    names = [column.name for column in schema.targets]
    first = next((problem for problem in problems if problem.column in names), None)
    if first is None:
        return DataError("no row has a target, so there is nothing to score", file=table.source, fix="use predict")
    why = f"no row could be scored: no target value occurs in the training table; the first: {first.problem}"
    folded = quoting.as_kind(first.column, "{kind: category, fold: true}")
    fix = f"write targets as the training table does, or train with {folded}"
    return DataError(why, file=table.source, row=first.row, column=first.column, fix=fix)

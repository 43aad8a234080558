"""A long table (a row per time) as series on a regular grid: gaps are marked, and readings within a step averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import Array, is_blank
from sensorium.core.plurals import counted
from sensorium.core.recipe import Windows
from sensorium.data.clock import Clock, read_times
from sensorium.data.inspection.type_inference import infer_types
from sensorium.data.tables.table import Table
from sensorium.data.windows import numbers

PAST, FUTURE_KNOWN = "past", "known"
"""The columns of a window that hold the past, and what is known in advance over the future."""
TIMES = "times"
"""The column of a window that holds the moments of its future."""
REPEATED = 0.05
"""Maximum share of rows with the time of another row; more indicate several series."""
SPARSE = 50
"""Maximum number of grid steps per row; above it, the step is too small or a time is wrong."""


@dataclass(frozen=True)
class OnGrid:
    """One series on the regular grid.

    Args:
        start: The time of its first step; of a table without a clock, 0.
        values: Readings ``[T, C]``: the forecast columns, those known in advance, those known in the past only; NaN: a gap.
        row: For each step ``[T]``, the last row of the table up to it.
    """

    start: float
    values: Array
    row: Array

    def known_until(self, targets: int) -> int:
        """Return the number of steps up to the last reading of any of the first ``targets`` columns, the forecast ones."""
        known = np.flatnonzero(np.isfinite(self.values[:, :targets]).any(axis=1))
        return int(known[-1]) + 1 if len(known) else 0


@dataclass(frozen=True)
class LongTable:
    """All series of a long table.

    Args:
        windows: How it is cut, with all open settings chosen except ``past`` and ``stride``.
        clock: The clock; None: rows are steps.
        series: The series, in order of their first rows.
        others: The columns whose cells a window copies from the last row of its past.
        notes: Notes on how the regular grid was made.
    """

    windows: Windows
    clock: Clock | None
    series: list[OnGrid]
    others: list[str]
    notes: list[str]

    @classmethod
    def of(
        cls, table: Table, windows: Windows, *, leave: Sequence[str] = (), kinds: Sequence[str] = (), strict: bool = False
    ) -> LongTable:
        """Put ``table`` on the grid.

        Args:
            table: The table.
            windows: How it is to be cut.
            leave: Columns that are ignored.
            kinds: Columns whose kind the user named; they are copied unchanged.
            strict: Whether the columns known in advance or in the past must exist too.

        Raises:
            DataError: A column does not exist, a cell is not a number or a time, or many rows have the same time.
            ConfigError: A column is named twice, or has the name of one that a window needs.
        """
        named = [*windows.target, *windows.known, *(windows.beside or ())]
        keys = [name for name in (windows.time, windows.series) if name is not None]
        if twice := next((name for name in [*named, *keys] if [*named, *keys].count(name) > 1), None):
            raise ConfigError(
                f"column {twice!r} is named twice", fix="a column is forecast, known, the clock or the series"
            )
        required = [*windows.target, *keys, *(named if strict else ())]
        for name in required:
            table.column(name)  # raises an error that lists the columns
        others = [name for name in table.columns if name not in {*named, *keys, *leave}]
        for name in (PAST, FUTURE_KNOWN, TIMES, windows.column):
            if name in [*others, *keys]:
                raise ConfigError(
                    "a window has a column of this name", column=name, fix="rename the column, or --ignore it"
                )
        if windows.beside is None:
            guesses = infer_types(table, names=[name for name in others if name not in kinds])
            in_past = [name for name, guess in guesses.items() if guess.kind == "number" and guess.role == "input"]
            idle = {name for name, guess in guesses.items() if guess.role == "ignore"}
            others = [name for name in others if name not in {*in_past, *idle}]
            windows = windows.model_copy(update={"beside": in_past})
        read = [*windows.target, *windows.known, *(windows.beside or ())]
        lacking = [name for name in read if not table.has(name)]
        values = np.full((len(table), len(read)), np.nan)
        for at, name in enumerate(read):
            if name not in lacking:
                values[:, at] = [np.nan if cell is None else cell for cell in numbers(table, name)]
        groups: dict[Any, list[int]] = {}
        owner = None if windows.series is None else table.column(windows.series)
        for i in range(len(table)):
            groups.setdefault(None if owner is None else owner[i], []).append(i)
        if (
            owner is not None
            and (blank := next((rows[0] for key, rows in groups.items() if is_blank(key)), None)) is not None
        ):
            raise DataError(
                "does not say which series the row belongs to",
                file=table.source,
                row=table.number(blank),
                column=windows.series,
            )
        rows_of = [np.array(rows) for rows in groups.values()]
        if windows.time is None:
            series = [OnGrid(0.0, values[rows], rows) for rows in rows_of]
            return cls(windows.model_copy(update={"calendar": []}), None, series, others, _gaps(series, windows, table))
        return _timed(table, windows, values, rows_of, others)

    @property
    def end(self) -> float:
        """The time of the last reading of a forecast column in any series."""
        assert self.clock is not None
        count = len(self.windows.target)
        return max(
            (
                self.clock.moment(on_grid.start, on_grid.known_until(count) - 1)
                for on_grid in self.series
                if on_grid.known_until(count)
            ),
            default=-np.inf,
        )


def _timed(table: Table, windows: Windows, values: Array, rows_of: list[Array], others: list[str]) -> LongTable:
    """Put the rows of each series on the grid of the clock."""
    assert windows.time is not None
    times, dated, zoned = read_times(table, windows.time)
    notes = []
    if empty := int(np.isnan(times).sum()):
        notes.append(f"{counted(empty, 'row')} without a time left out")
    rows_of = [rows[np.isfinite(times[rows])] for rows in rows_of]
    rows_of = [rows for rows in rows_of if len(rows)]
    if any((np.diff(times[rows]) < 0).any() for rows in rows_of):
        notes.append("rows put in order of time")
        rows_of = [rows[np.argsort(times[rows], kind="stable")] for rows in rows_of]
    repeated = [rows[1:][np.diff(times[rows]) == 0] for rows in rows_of]
    count = sum(map(len, repeated))
    if count > REPEATED * sum(map(len, rows_of)):
        row = next(int(rows[0]) for rows in repeated if len(rows))
        raise DataError(
            f"the time {table.column(windows.time)[row]!s:.40} occurs twice"
            f"{'' if windows.series is None else ' in one series'}, and {count:,} rows repeat a time",
            file=table.source,
            row=table.number(row),
            column=windows.time,
            fix="name the column that tells the series apart: --series COLUMN",
        )
    clock = Clock.of([times[rows] for rows in rows_of], windows.step, dated=dated, zoned=zoned, column=windows.time)
    series, merged = [], 0
    for rows in rows_of:
        start = clock.origin(times[rows])
        at = clock.positions(times[rows], start)
        steps = int(at[-1]) + 1
        if steps > SPARSE * len(rows) + 1000:
            raise DataError(
                f"{len(rows):,} rows would make {steps:,} steps of {clock}",
                file=table.source,
                column=windows.time,
                fix="a longer step (--step), or correct a wrong time",
            )
        finite = np.isfinite(values[rows])
        sums, counts = np.zeros((steps, values.shape[1])), np.zeros((steps, values.shape[1]))
        np.add.at(sums, at, np.where(finite, values[rows], 0.0))
        np.add.at(counts, at, finite)
        last = np.zeros(steps, dtype=np.int64)
        last[at] = np.arange(len(rows))
        merged += len(rows) - len(np.unique(at))
        grid = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        series.append(OnGrid(clock.moment(start, 0), grid, rows[np.maximum.accumulate(last)]))
    if merged:
        notes.append(f"{counted(merged, 'row')} in a step that has another one: averaged")
    span = max(on_grid.start + len(on_grid.values) * clock.step for on_grid in series) - min(
        on_grid.start for on_grid in series
    )
    if windows.calendar is None:
        windows = windows.model_copy(update={"calendar": clock.cycles(span)})
    windows = windows.model_copy(update={"step": clock.setting})
    series = [replace(on_grid, values=_with_calendar(on_grid, windows, clock)) for on_grid in series]
    notes = [f"a regular grid, a step {clock}", *notes, *_gaps(series, windows, table)]
    return LongTable(windows, clock, series, others, notes)


def _with_calendar(on_grid: OnGrid, windows: Windows, clock: Clock) -> Array:
    """Return the readings with the calendar of each step as further columns at the end."""
    return np.concatenate([on_grid.values, calendar_of(on_grid, windows, clock, 0, len(on_grid.values))], axis=1)


def calendar_of(on_grid: OnGrid, windows: Windows, clock: Clock, first: int, after: int) -> Array:
    """Return the calendar of the steps ``first`` to ``after - 1`` of a series, ``[n, F]``.

    Args:
        on_grid: The series.
        windows: Names the cycles.
        clock: The clock.
        first: The first step.
        after: The step after the last one.
    """
    return clock.calendar((clock.moment(on_grid.start, k) for k in range(first, after)), windows.calendar or [])


def _gaps(series: Sequence[OnGrid], windows: Windows, table: Table) -> list[str]:
    """Return notes on steps without a reading."""
    count = len(windows.target)
    cut = [on_grid.values[: on_grid.known_until(count), :count] for on_grid in series]
    missing, steps = sum(int(np.isnan(part).any(axis=1).sum()) for part in cut), sum(map(len, cut))
    if not steps:
        raise DataError("no row has a number", file=table.source, column=windows.target[0])
    return [f"{missing:,} of {steps:,} steps have no reading: gaps are marked"] if missing else []

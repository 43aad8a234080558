"""Windows of a long table as rows: for training, for backtests over time, and for forecasts from the end of each series."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sensorium.core.errors import DataError
from sensorium.core.modality import Array
from sensorium.core.plurals import counted
from sensorium.core.recipe import Windows
from sensorium.data.regular_grid import FUTURE_KNOWN, PAST, TIMES, LongTable, OnGrid, calendar_of
from sensorium.data.tables.table import Table

MOST, MOST_HELD_OUT = 3000, 500
"""Target numbers of training and of held-out windows; with more, the stride grows."""
LEAST = 4
"""Minimum number of training windows."""


class Cut(NamedTuple):
    """Training and held-out windows of a long table.

    Args:
        training: The training windows.
        held_out: The windows whose futures begin after those of the training windows have ended.
        windows: How they were cut, with all settings chosen.
        columns: The kinds and roles of the columns of a window.
        season: Number of steps in the usual season.
        notes: Notes for the user.
    """

    training: Table
    held_out: Table
    windows: Windows
    columns: dict[str, dict[str, Any]]
    season: int
    notes: list[str]


def training_windows(
    table: Table,
    windows: Windows,
    *,
    valid: Table | None = None,
    part: float = 0.15,
    leave: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> Cut:
    """Cut ``table`` into training windows and later held-out windows; windows across the split are left out.

    With a clock, all series are split at the same time; without one, each at the same share of its steps.

    Args:
        table: The long table.
        windows: How to cut it.
        valid: A long table to cut held-out windows from; None: the last steps of ``table``.
        part: The share of steps that are held out.
        leave: Columns that are ignored.
        kinds: Columns whose kind the user named.

    Raises:
        DataError: The series are too short for the horizon, or the table cannot be put on a grid.
    """
    long = LongTable.of(table, windows, leave=leave, kinds=kinds, strict=True)
    season = 1 if long.clock is None else long.clock.season
    count, horizon = len(windows.target), windows.horizon
    lengths = [on_grid.known_until(count) for on_grid in long.series]
    usual = int(np.median([length for length in lengths if length] or [0]))
    share = part if valid is None else 0.0
    past = windows.past or max(2, min(max(3 * horizon, 2 * season), int(0.6 * (usual * (1 - share) - horizon))))
    season = season if past > season else 1  # the scale of MASE is a change over a season, within the past
    chosen = long.windows.model_copy(update={"past": past})
    starts = [math.inf] * len(lengths) if valid is not None else _divided(long, lengths, horizon, part)
    spans = [range(past, int(min(start, length)) - horizon + 1) for start, length in zip(starts, lengths, strict=True)]
    total = sum(map(len, spans))
    ended = None if long.clock is None else long.end
    stride = chosen.stride or max(1, total // MOST)
    chosen = chosen.model_copy(update={"stride": stride, "ended": ended})
    training = _table(table, long, chosen, [span[::stride] for span in spans])
    if len(training) < LEAST:
        raise DataError(
            f"{counted(len(training), 'training window')} of {past} + {horizon} steps can be cut from series of {usual:,} "
            f"steps (the median), of which the last {share:.0%} are held out",
            file=table.source,
            fix=f"a shorter --horizon{'' if windows.past is None else ' or --past'}, or longer series",
        )
    if valid is not None:
        held_out, notes = backtest_windows(valid, chosen.model_copy(update={"ended": None})), []
        chosen = chosen.model_copy(update={"ended": _later(ended, valid, chosen)})
    else:
        spans = [range(max(past, int(start)), length - horizon + 1) for start, length in zip(starts, lengths, strict=True)]
        held_out, notes = _table(table, long, chosen, _thinned(spans, stride)), [_where(long, starts)]
    if not len(held_out):
        raise DataError(
            f"no held-out window of {past} + {horizon} steps can be cut",
            file=table.source,
            fix="a shorter --horizon, a larger data.split.part, or --valid",
        )
    columns = _declared(training, long, windows, lengths)
    head = f"{counted(len(long.series), 'series', 'series')}, {past} + {horizon} steps, every {stride}"
    notes = [f"windows: {head}", *long.notes, *_covariates(chosen), *notes]
    return Cut(training, held_out, chosen, columns, season, notes)


def _declared(training: Table, long: LongTable, windows: Windows, lengths: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return the kinds and roles of the columns of the windows ``training``."""
    gaps = any(np.isnan(on_grid.values[:length]).any() for on_grid, length in zip(long.series, lengths, strict=True))
    columns: dict[str, dict[str, Any]] = {
        PAST: {"kind": "series", "role": "input", "indicator": gaps},
        windows.column: {"kind": "series", "role": "target", "on": PAST, "length": windows.horizon},
    }
    if training.has(FUTURE_KNOWN):
        columns[FUTURE_KNOWN] = {"kind": "series", "role": "input", "length": windows.horizon}
    if training.has(TIMES):
        columns[TIMES] = {"role": "ignore"}
    return columns


def backtest_windows(table: Table, windows: Windows) -> Table:
    """Return the windows of ``table`` with a known future that begins after the end of the training table.

    ``windows`` are the settings that ``training_windows`` chose.

    Raises:
        DataError: There is no such window.
    """
    long = LongTable.of(table, windows)
    count, past = len(windows.target), windows.past or 1
    spans = []
    for on_grid in long.series:
        first = past
        if windows.ended is not None and long.clock is not None:
            while first < len(on_grid.values) and long.clock.moment(on_grid.start, first) <= windows.ended:
                first += 1
        spans.append(range(first, on_grid.known_until(count) - windows.horizon + 1))
    result = _table(table, long, windows, _thinned(spans, windows.stride or 1))
    if not len(result):
        after = ""
        if windows.ended is not None and long.clock is not None:
            after = f" after {long.clock.written(windows.ended)}, where training ended"
        raise DataError(
            f"no window of {past} + {windows.horizon} steps has its future{after}",
            file=table.source,
            fix="give later rows; those before them are read as the past",
        )
    return result


def next_windows(table: Table, windows: Windows) -> Table:
    """Return the last window of each series of ``table``, whose future is unknown; ``windows`` as chosen in training."""
    long = LongTable.of(table, windows)
    ends = [on_grid.known_until(len(windows.target)) for on_grid in long.series]
    result = _table(table, long, windows, [[end] if end else [] for end in ends], future=False)
    return Table(
        {name: result.column(name) for name in result.columns},
        source=table.source,
        root=table.root,
        numbers=[result.number(i) for i in range(len(result))],
        notes=[*table.notes, *_lacking(table, windows), *_unknown(long, windows, ends)],
    )


def _lacking(table: Table, windows: Windows) -> list[str]:
    """Return a note on the columns of training that the table lacks."""
    lacking = [name for name in windows.beside or () if not table.has(name)]
    return [f"no column {', '.join(lacking)}: taken as missing in every row"] if lacking else []


def _unknown(long: LongTable, windows: Windows, ends: Sequence[int]) -> list[str]:
    """Return a note on the columns known in advance that lack values for the steps to forecast."""
    count = len(windows.target)
    lacking = [
        name
        for at, name in enumerate(windows.known, count)
        if any(
            np.isnan(_padded(on_grid.values[end : end + windows.horizon, at : at + 1], windows.horizon)).any()
            for on_grid, end in zip(long.series, ends, strict=True)
        )
    ]
    if not lacking:
        return []
    return [f"known in advance, but missing for some of the {windows.horizon} steps ahead: {', '.join(lacking)}"]


def _divided(long: LongTable, lengths: Sequence[int], horizon: int, part: float) -> list[float]:
    """Return the first held-out step of each series."""
    clock = long.clock
    if clock is None:
        return [float(min(math.ceil(n * (1 - part)), n - horizon)) for n in lengths]
    moments = np.sort(
        np.concatenate(
            [[clock.moment(on_grid.start, k) for k in range(n)] for on_grid, n in zip(long.series, lengths, strict=True)]
        )
    )
    latest = max(clock.moment(on_grid.start, n - horizon) for on_grid, n in zip(long.series, lengths, strict=True))
    moment = min(float(moments[int(len(moments) * (1 - part))]), latest)
    return [float(max(0, clock.positions(np.array([moment]), on_grid.start)[0])) for on_grid in long.series]


def _where(long: LongTable, starts: Sequence[float]) -> str:
    """Return a note on where the held-out steps begin."""
    if long.clock is None:
        return "the last steps of each series are held out"
    first = long.series[0]
    return f"held out from {long.clock.written(long.clock.moment(first.start, int(starts[0])))} on"


def _later(ended: float | None, valid: Table, windows: Windows) -> float | None:
    """Return the last time in the training and validation tables."""
    return None if ended is None else max(ended, LongTable.of(valid, windows).end)


def _thinned(spans: Sequence[range], stride: int) -> list[range]:
    """Return the steps of ``spans``, thinned to about ``MOST_HELD_OUT``."""
    total = sum(map(len, spans))
    return [span[:: max(stride if total > MOST_HELD_OUT else 1, total // MOST_HELD_OUT)] for span in spans]


def _covariates(windows: Windows) -> list[str]:
    """Return notes on the columns read in addition to the past of the forecast columns."""
    known = [*windows.known, *(f"the time of {name}" for name in windows.calendar or [])]
    lines = [f"known in advance: {', '.join(known)}"] if known else []
    return lines + ([f"read in the past: {', '.join(windows.beside)}"] if windows.beside else [])


def _table(
    table: Table, long: LongTable, windows: Windows, spans: Sequence[Sequence[int]], *, future: bool = True
) -> Table:
    """Return, as rows, the windows whose forecasts begin at the steps ``spans`` of each series."""
    rows, at = [], []
    for on_grid, span in zip(long.series, spans, strict=True):
        for row, number in _rows(table, long, windows, on_grid, span, future):
            rows.append(row)
            at.append(number)
    names = list(rows[0]) if rows else []
    return Table({name: [row[name] for row in rows] for name in names}, source=table.source, root=table.root, numbers=at)


def _rows(
    table: Table, long: LongTable, windows: Windows, on_grid: OnGrid, span: Sequence[int], future: bool
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the windows of one series and the number of the last row of their past; those without readings are left out."""
    count, horizon, clock = len(windows.target), windows.horizon, long.clock
    known = slice(count, count + len(windows.known))
    keys = [*([] if windows.series is None else [windows.series]), *long.others]
    for now in span:
        past = on_grid.values[max(0, now - (windows.past or now)) : now]
        after = _padded(on_grid.values[now : now + horizon], horizon)
        if not np.isfinite(past[:, :count]).any() or (future and not np.isfinite(after[:, :count]).any()):
            continue
        last = int(on_grid.row[now - 1])
        row: dict[str, Any] = {name: table.column(name)[last] for name in keys}
        row[PAST] = past
        ahead = after[:, known]
        if clock is not None:
            ahead = np.concatenate([ahead, calendar_of(on_grid, windows, clock, now, now + horizon)], axis=1)
            row[TIMES] = [clock.written(clock.moment(on_grid.start, now + k)) for k in range(horizon)]
        if ahead.shape[1]:
            row[FUTURE_KNOWN] = ahead
        if future:
            row[windows.column] = after[:, :count]
        yield row, table.number(last)


def _padded(values: Array, steps: int) -> Array:
    """Return ``values`` ``[n, C]`` padded with NaN to ``[steps, C]``."""
    return np.concatenate([values, np.full((steps - len(values), values.shape[1]), np.nan)])


def as_windows(table: Table, windows: Windows | None, *, future: bool = False, training: bool = False) -> Table:
    """Return ``table`` as rows of a model trained on ``windows``; unchanged if those are None or it holds windows already.

    Args:
        table: The table.
        windows: How the training table was cut.
        future: Whether to cut backtest windows, whose future is known, rather than the last of each series.
        training: Whether it is the training table; windows before the end of training are then included.
    """
    if windows is None or table.has(PAST):
        return table
    if training:
        return backtest_windows(table, windows.model_copy(update={"ended": None}))
    return backtest_windows(table, windows) if future else next_windows(table, windows)

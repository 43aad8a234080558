"""Windows of a long table (a row per time step) for forecasting, split over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import is_blank
from sensorium.data.tables.table import Table


def cut_windows(
    source: Any,
    target: str | Sequence[str],
    *,
    horizon: int,
    past: int,
    stride: int = 1,
    series: str | None = None,
    known: Sequence[str] = (),
    held_out: float = 0.2,
) -> tuple[Table, Table]:
    """Cut a long table, whose rows are in order of time, into training windows and later backtest windows.

    Each series is split at the same share of its steps: the futures of training windows end before that step, those of
    backtest windows begin there or later. No step is both trained and tested on; windows across the split are left out.
    Columns of a window: ``past`` (lists of numbers, None where missing), ``future``, each of ``known`` as the list of its
    values over the future, and every other column as it is in the last row of the past.

    Args:
        source: The table, as ``Table.read`` takes it.
        target: The column, or columns, to forecast.
        horizon: Steps of the future.
        past: Steps of the past.
        stride: Steps from one window to the next.
        series: The column that identifies the series of a row; None: there is one series.
        known: Columns of numbers that are known in advance over the future.
        held_out: The share of each series, from its end, for backtest windows.

    Raises:
        ConfigError: A setting is out of range.
        DataError: A column is missing, a cell is not a number, or no series is long enough for a window of each kind.
    """
    if min(horizon, past, stride) < 1 or not 0 < held_out < 1:
        raise ConfigError("windows: horizon, past and stride are 1 or more, held_out is between 0 and 1")
    table = Table.read(source)
    targets = [target] if isinstance(target, str) else list(target)
    read = {name: numbers(table, name) for name in [*targets, *known]}
    rows_of: dict[Any, list[int]] = {}
    for i in range(len(table)):
        rows_of.setdefault(None if series is None else table.column(series)[i], []).append(i)
    others = [name for name in table.columns if name not in read]
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])

    def steps(rows: Sequence[int]) -> list[Any]:
        readings = [[read[name][i] for name in targets] for i in rows]
        return [step[0] for step in readings] if len(targets) == 1 else readings

    for rows in rows_of.values():
        start = math.ceil(len(rows) * (1 - held_out))
        for now in range(past, len(rows) - horizon + 1, stride):
            if now < start < now + horizon:
                continue
            before, after = rows[now - past : now], rows[now : now + horizon]
            window = {name: table.column(name)[before[-1]] for name in others}
            window |= {name: [read[name][i] for i in after] for name in known}
            parts[now >= start].append({**window, "past": steps(before), "future": steps(after)})
    if not parts[0] or not parts[1]:
        raise DataError(
            f"no series is long enough for windows of {past} + {horizon} steps on both sides of the division",
            file=table.source,
            fix="a shorter past or horizon, or another share held_out",
        )
    training, backtest = (Table.read(part, root=table.root) for part in parts)
    return training, backtest


def numbers(table: Table, name: str) -> list[float | None]:
    """Return the cells of the column ``name`` of ``table`` as numbers, None where missing.

    Raises:
        DataError: A cell is not a number.
    """
    cells = table.column(name)
    number: Any = registry.build("modalities", "number")
    number.fit([cell for cell in cells if not is_blank(cell)])
    read: list[float | None] = []
    for i, cell in enumerate(cells):
        value = None if is_blank(cell) else number.value(cell)
        if value is None and not is_blank(cell):
            raise DataError(f"{str(cell)[:60]!r} is not a number", file=table.source, row=table.number(i), column=name)
        read.append(None if value is None else float(value))
    return read

"""The clock of a long table: parsing of its column of times, the usual step between rows, and the calendar."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

import numpy as np

from sensorium.core import registry
from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import Array, is_blank
from sensorium.data.tables.table import Table

Cycle = Literal["day", "week", "year"]
_DAY = 86_400.0
_MONTH = (27.5, 31.5)
"""Range of days between two rows that count as a month."""
_ROUND = (1, 5, 10, 15, 20, 30, 60, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 14_400, 21_600, 43_200, 86_400, 604_800)
"""Step lengths in seconds to which a similar median distance of rows is rounded."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY, "w": 7 * _DAY}
_DURATION = re.compile(r"([0-9.]*)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?)")
_EPOCH = datetime(1970, 1, 1)
_SEASONS = ((900.0, 96), (1800.0, 48), (3600.0, 24), (_DAY, 7), (7 * _DAY, 52))


@dataclass(frozen=True)
class Clock:
    """Conversion between times and positions on a regular grid.

    Args:
        step: Length of a step: seconds for dates, the unit of the column for numbers; unused with ``months``.
        months: Calendar months in a step; 0: a step has a fixed length.
        dated: Whether times are dates, in seconds since 1970, rather than numbers.
        zoned: Whether the dates name a time zone; times are then given in UTC.
    """

    step: float
    months: int = 0
    dated: bool = True
    zoned: bool = False

    def positions(self, times: Array, start: float) -> Array:
        """Return the step of each of ``times`` ``[n]``, counted from that at ``start``."""
        if self.months:
            return np.asarray(_month(times) // self.months - _month(np.array([start])) // self.months, dtype=np.int64)
        return np.round((times - start) / self.step).astype(np.int64)

    def origin(self, times: Array) -> float:
        """Return the time of the first step for readings at the sorted ``times``: that of the first reading, rounded to a
        multiple of the step if the clock jitters."""
        start = float(times[0])
        if self.months:
            return self.moment(start, 0)
        off = np.abs((times - start) / self.step - np.round((times - start) / self.step))
        return start if off.max(initial=0.0) < 0.01 else round(start / self.step) * self.step

    def moment(self, start: float, position: int) -> float:
        """Return the time of the step at ``position``, counted from ``start``."""
        if not self.months:
            return start + position * self.step
        begin = _EPOCH + timedelta(seconds=start)
        month = (begin.year * 12 + begin.month - 1) // self.months * self.months + position * self.months
        return (datetime(month // 12, month % 12 + 1, 1) - _EPOCH).total_seconds()

    def written(self, moment: float) -> str | float:
        """Return ``moment`` as answers contain it: an ISO 8601 date, or the number."""
        if not self.dated:
            return int(moment) if moment == int(moment) else moment
        date = _EPOCH + timedelta(seconds=moment)
        text = date.isoformat(timespec="seconds" if moment == int(moment) else "milliseconds")
        text = text[:10] if self.step >= _DAY and date.time() == _EPOCH.time() else text
        return f"{text}+00:00" if self.zoned and len(text) > 10 else text

    @property
    def setting(self) -> float | str:
        """The step as written in a recipe."""
        return f"{self.months} months" if self.months else self.step

    def __str__(self) -> str:
        if self.months:
            return {1: "a month", 3: "a quarter", 12: "a year"}.get(self.months, f"{self.months} months")
        if not self.dated:
            return f"{self.step:g}"
        for name, size in (("d", _DAY), ("h", 3600.0), ("min", 60.0)):
            if self.step >= size and self.step % size == 0:
                return f"{self.step / size:g} {name}"
        return f"{self.step:g} s"

    @property
    def season(self) -> int:
        """Number of steps in the shortest usual season: 24 for hours, 7 for days, 12 for months; 1 if there is none."""
        if self.months:
            return max(1, 12 // self.months)
        return next((count for size, count in _SEASONS if self.dated and abs(self.step - size) < 0.01 * size), 1)

    def cycles(self, span: float) -> list[Cycle]:
        """Return the cycles that can be observed with this step in data that spans ``span``."""
        if not self.dated:
            return []
        lengths: tuple[tuple[Cycle, float], ...] = (("day", _DAY), ("week", 7 * _DAY), ("year", 365.25 * _DAY))
        return [name for name, length in lengths if self.step < length / 1.9 and span >= 1.5 * length]

    def calendar(self, moments: Iterable[float], cycles: Sequence[Cycle]) -> Array:
        """Return ``[n, F]``: sine and cosine of the phase of each of ``moments`` in each of ``cycles``, and for the week
        also whether it is a weekend."""
        rows = []
        for moment in moments:
            date = _EPOCH + timedelta(seconds=moment)
            day = (date.hour * 3600 + date.minute * 60 + date.second) / _DAY
            parts = {
                "day": day,
                "week": (date.weekday() + day) / 7,
                "year": (date.timetuple().tm_yday - 1 + day) / 365.25,
            }
            row: list[float] = []
            for name in cycles:
                row += [math.sin(2 * math.pi * parts[name]), math.cos(2 * math.pi * parts[name])]
                row += [float(date.weekday() >= 5)] if name == "week" else []
            rows.append(row)
        return np.array(rows, dtype=np.float64).reshape(len(rows), -1)

    @classmethod
    def of(cls, per_series: Sequence[Array], step: float | str | None, *, dated: bool, zoned: bool, column: str) -> Self:
        """Return the clock of rows at the sorted times ``per_series`` of each series.

        Args:
            per_series: The times of each series, sorted.
            step: The step that the user names; None: the median distance of rows.
            dated: Whether they are dates.
            zoned: Whether they name a zone.
            column: The name of the column, for errors.
        """
        if step is not None:
            months = _months(step)
            length = 30.44 * _DAY * months if months else _length(step, dated, column)
            return cls(length, months, dated, zoned)
        distances = np.concatenate([np.diff(times) for times in per_series] or [np.zeros(0)])
        distances = distances[distances > 0]
        if not len(distances):
            raise DataError(
                "every row has the same time", column=column, fix="name the column of the clock, or leave it out"
            )
        usual = float(np.median(distances))
        if dated:
            for months in (1, 3, 12):
                if _MONTH[0] * months <= usual / _DAY <= _MONTH[1] * months - (months > 3) * 5 and (
                    months == 1 or usual > 80
                ):
                    days = {(_EPOCH + timedelta(seconds=float(t))).day for times in per_series for t in times}
                    if len(days) == 1 or min(days) >= 28:
                        return cls(30.44 * _DAY * months, months, dated, zoned)
            near = min(_ROUND, key=lambda size: abs(size - usual))
            # The median of distances that vary is uncertain by about their spread over the root of their number.
            low, high = np.percentile(distances, (25, 75))
            about = min(max(0.02 * usual, 3 * float(high - low) / math.sqrt(len(distances))), 0.1 * usual)
            usual = float(near) if abs(near - usual) <= about else usual
        return cls(usual, 0, dated, zoned)


def read_times(table: Table, name: str) -> tuple[Array, bool, bool]:
    """The times of the column ``name`` of ``table`` ``[rows]`` (NaN: empty), whether they are dates, and whether these
    name a zone.

    Numbers stay numbers; dates become seconds since 1970.

    Raises:
        DataError: There is no such column, it is empty, or a cell is neither a date nor a number.
    """
    cells = table.column(name)
    filled = [cell for cell in cells if not is_blank(cell)]
    if not filled:
        raise DataError("no row has a time", file=table.source, column=name)
    date: Any = registry.build("modalities", "datetime")
    date.fit(filled)
    numbers = [_plain_number(cell) for cell in filled]
    sure = type(date).sniff(filled[:500], name).score > 0.9  # numbers may be seconds since 1970, or days such as 20200131
    dated = sure or any(number is None for number in numbers) or min(number or 0.0 for number in numbers) >= 1e9
    times = np.full(len(cells), np.nan)
    zoned = False
    for i, cell in enumerate(cells):
        if is_blank(cell):
            continue
        read = date.moment(cell) if dated else None
        number = None if dated else _plain_number(cell)
        if read is None and number is None:
            raise DataError(
                f"{str(cell)[:60]!r} is not a time",
                file=table.source,
                row=table.number(i),
                column=name,
                fix="write dates like 2020-12-31 23:59, or numbers in every row",
            )
        times[i] = number if read is None else read[1]
        if read is not None and not zoned:
            zoned = (read[0].replace(tzinfo=UTC).timestamp() != read[1]) or str(cell).strip().endswith(("Z", "+00:00"))
    return times, dated, zoned


def _plain_number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _month(times: Array) -> Array:
    """Months since the year 0 of times in seconds since 1970."""
    return times.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) + 1970 * 12


def _months(step: float | str) -> int:
    """The calendar months that ``step`` names: ``1 month``, ``3 months``, ``quarter``, ``year``; 0 if it names none."""
    if not isinstance(step, str):
        return 0
    *count, unit = step.lower().split() or [""]
    size = {"month": 1, "quarter": 3, "year": 12}.get(unit.removesuffix("s"), 0)
    return size * (int(count[0]) if count and count[0].isdigit() else 1)


def _length(step: float | str, dated: bool, column: str) -> float:
    """The length of a step that the user names, in seconds for dates."""
    number = _plain_number(step)
    if number is None and dated and (parts := _DURATION.fullmatch(str(step).strip().lower())) is not None:
        number = float(parts[1] or 1) * _UNITS[parts[2][0]]
    if number is None or not 0 < number < math.inf:
        raise ConfigError(f"{step!r} is not a step of the clock", column=column, fix="15 min, 1 h, 1 month, or a number")
    return number

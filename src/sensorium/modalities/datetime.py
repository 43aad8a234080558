"""Dates and times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component
from sensorium.language.datetimes import DayMonthOrder, Order, day_month_order, is_compact_date, read_datetime
from sensorium.language.numbers import read_number

_DAY = 86_400.0
_FEATURES = 7
_SAID: dict[Order, str] = {"dmy": "days first", "mdy": "months first"}


@component
class Datetime(Modality):
    """A date or time: a birthday, the time of a sale.

    Encoded as ``[7]`` float32: the time in days, standardised and clipped to ±10, and the sine and cosine of the time of
    year, week and day, so that December is near January and Sunday near Monday. Times of day are used as written; the first
    number is computed in UTC.

    Args:
        order: Meaning of 3/4/2020: ``dmy`` 3 April, ``mdy`` 4 March, ``auto`` what fits the training cells (day first if
            both do). A later cell that fits only the other order raises ``CellError``.
    """

    stream = "table"

    def __init__(self, *, order: Literal["auto", "dmy", "mdy"] = "auto") -> None:
        super().__init__()
        self.order = order
        self._turned: DayMonthOrder | None = None

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        if not cells:
            return Guess(0.0, "no cells to look at")
        order = day_month_order(cells).order
        read = sum(read_datetime(cell, order) is not None for cell in cells)
        bare = sum(read_number(cell) is not None for cell in cells)
        share = read / len(cells)
        if bare <= len(cells) / 2:
            return Guess(0.97 * share**2, f"{read} of {len(cells)} cells are dates")
        if sum(map(is_compact_date, cells)) == read >= 5 and share > 0.95:
            # Other eight-digit numbers are rarely valid dates.
            return Guess(0.95 * share**2, f"{read} of {len(cells)} cells are days such as {str(cells[0]).strip()[:8]}")
        # Any large number could be seconds since 1970: the column name must suggest it too.
        named = any(word in name.lower() for word in ("time", "date", "stamp", "epoch", "_at", "when"))
        return Guess(
            (0.93 if named else 0.2) * share**2, f"{read} of {len(cells)} cells could be seconds since 1970 or dates"
        )

    def fit(self, cells: Iterable[Any]) -> None:
        training_cells = list(cells)
        self._turned = day_month_order(training_cells)
        order: Order = self._turned.order if self.order == "auto" else self.order
        days = [
            parsed[1] / _DAY for parsed in (read_datetime(cell, order) for cell in training_cells) if parsed is not None
        ]
        spread = float(np.std(days)) if days else 0.0
        self.state = {
            "order": order,
            "mean": float(np.mean(days)) if days else 0.0,
            "deviation": spread if spread > 1e-6 else 1.0,
        }

    @property
    def layout(self) -> Layout:
        return Row((0,) * _FEATURES)

    @property
    def reading(self) -> str:
        evidence = self._turned
        if evidence is None or not (evidence.days or evidence.months or evidence.either):
            return ""
        how = _SAID[self.state["order"]]
        if self.order != "auto":
            return f"{how}, as specified"
        if not evidence.example:
            return f"{how}, though no cell decides it"
        count = evidence.months if self.state["order"] == "mdy" else evidence.days
        return f"{how}, as {evidence.example} says" + (f" and {count - 1} more" if count > 1 else "")

    @property
    def resolved_options(self) -> dict[str, Any]:
        decided = self._turned is not None and bool(self._turned.example)
        return {"order": self.state["order"]} if self.order == "auto" and decided else {}

    @property
    def doubts(self) -> list[str]:
        evidence = self._turned
        if evidence is None or self.order != "auto":
            return []
        if evidence.days and evidence.months:
            return [
                f"{evidence.days} dates have days first and {evidence.months} months first: read with "
                f"{_SAID[self.state['order']]}; the others count as missing"
            ]
        if evidence.either and not evidence.example:
            return [
                f"{evidence.either} dates such as 3/4/2020 are read with days first, though no cell decides it: if months "
                f"come first, say order: mdy (as in --as 'COLUMN={{kind: datetime, order: mdy}}')"
            ]
        return []

    def moment(self, cell: Any) -> tuple[datetime, float] | None:
        """Parse ``cell`` into its local date and time and the seconds since 1970; None where it is not a date."""
        return read_datetime(cell, self.state["order"])

    def encode(self, cell: Any) -> Array:
        moment = self.moment(cell)
        if moment is None:
            raise self._problem(cell)
        clock, seconds = moment
        age = (seconds / _DAY - self.state["mean"]) / self.state["deviation"]
        hours = clock.hour + clock.minute / 60 + clock.second / 3600
        parts = ((clock.timetuple().tm_yday - 1) / 365.25, (clock.weekday() + hours / 24) / 7, hours / 24)
        waves = [wave(2 * math.pi * part) for part in parts for wave in (math.sin, math.cos)]
        return np.array([min(max(age, -10.0), 10.0), *waves], dtype=np.float32)

    def _problem(self, cell: Any) -> CellError:
        order: Order = self.state["order"]
        other: Order = "mdy" if order == "dmy" else "dmy"
        if read_datetime(cell, other) is None:
            return CellError(
                f"{str(cell)[:60]!r} is not a date ({_SAID[order]})", fix="write it like 2020-12-31 or 2020-12-31 23:59"
            )
        return CellError(
            f"{str(cell)[:60]!r} has {_SAID[other]}, but the column is read with {_SAID[order]}: write it like 2020-12-31, "
            f"or train with --as 'COLUMN={{kind: datetime, order: {other}}}'"
        )

    def blank(self) -> Array:
        return np.zeros(_FEATURES, dtype=np.float32)

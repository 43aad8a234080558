"""Dates and times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component
from sensorium.language.moment import Order, order_of, read_moment
from sensorium.language.numeral import read_number

_DAY = 86_400.0
_FEATURES = 7


@component
class Datetime(Modality):
    """A day or a moment: a birthday, a time of sale.

    Encoded as ``[7]`` float32: how long ago (standardised days, cut to ±10), and sine and cosine of the time of year, of
    week and of day, so that December is near January and Sunday near Monday. The clock is read as written, the age in UTC.

    Args:
        order: What 3/4/2020 means: ``dmy`` 3 April, ``mdy`` 4 March, ``auto`` what fits the training cells (days first
            where both do).
    """

    stream = "table"

    def __init__(self, *, order: Literal["auto", "dmy", "mdy"] = "auto") -> None:
        super().__init__()
        self.order = order

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        if not cells:
            return Guess(0.0, "no cells to look at")
        order = order_of(cells)
        read = sum(read_moment(cell, order) is not None for cell in cells)
        bare = sum(read_number(cell) is not None for cell in cells)
        share = read / len(cells)
        if bare <= len(cells) / 2:
            return Guess(0.97 * share**2, f"{read} of {len(cells)} cells are dates")
        # Any large number could be seconds since 1970: the column's name must say so too.
        told = any(word in name.lower() for word in ("time", "date", "stamp", "epoch", "_at", "when"))
        return Guess(
            (0.93 if told else 0.2) * share**2, f"{read} of {len(cells)} cells could be seconds since 1970 or dates"
        )

    def fit(self, cells: Iterable[Any]) -> None:
        seen = list(cells)
        order: Order = order_of(seen) if self.order == "auto" else self.order
        days = [found[1] / _DAY for found in (read_moment(cell, order) for cell in seen) if found is not None]
        spread = float(np.std(days)) if days else 0.0
        self.state = {
            "order": order,
            "mean": float(np.mean(days)) if days else 0.0,
            "deviation": spread if spread > 1e-6 else 1.0,
        }

    @property
    def layout(self) -> Layout:
        return Row((0,) * _FEATURES)

    def encode(self, cell: Any) -> Array:
        found = read_moment(cell, self.state["order"])
        if found is None:
            raise CellError(
                f"{str(cell)[:60]!r} is not a date"
                + (" (days first)" if self.state["order"] == "dmy" else " (months first)"),
                fix="write it like 2020-12-31 or 2020-12-31 23:59",
            )
        clock, seconds = found
        age = (seconds / _DAY - self.state["mean"]) / self.state["deviation"]
        hours = clock.hour + clock.minute / 60 + clock.second / 3600
        parts = ((clock.timetuple().tm_yday - 1) / 365.25, (clock.weekday() + hours / 24) / 7, hours / 24)
        waves = [wave(2 * math.pi * part) for part in parts for wave in (math.sin, math.cos)]
        return np.array([min(max(age, -10.0), 10.0), *waves], dtype=np.float32)

    def blank(self) -> Array:
        return np.zeros(_FEATURES, dtype=np.float32)

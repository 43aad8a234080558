"""How the numbers of a target lie: their middle, and which of them lie far from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensorium.core.modality import Modality
from sensorium.core.schema import Schema
from sensorium.data.inspection.target_leakage import number
from sensorium.data.tables.table import Table

FAR = 5.0
"""Robust deviations from the median beyond which a value is told of: of normal values one in two million is as far."""
NAMED = 5
"""Rows that a sentence names."""
NORMAL = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True)
class Lie:
    """How the numbers of a target lie.

    Args:
        count: How many there are.
        low, mean, median, high: Least, mean, middle and greatest.
        outliers: Those beyond ``FAR`` robust deviations of the median, the farthest first: the row's number in its table,
            and the value.
        logarithmic: Whether distances are those of logarithms, as the target is learnt.
    """

    count: int
    low: float
    mean: float
    median: float
    high: float
    outliers: list[tuple[int, float]] = field(default_factory=list)
    logarithmic: bool = False

    def told(self) -> str:
        """The outliers in a sentence; empty where there are none."""
        if not self.outliers:
            return ""
        rows = ", ".join(f"row {row} ({value:g})" for row, value in self.outliers[:NAMED])
        more = f" and {len(self.outliers) - NAMED} more" if len(self.outliers) > NAMED else ""
        how = " of their logarithms" if self.logarithmic else ""
        lie, from_ = ("lies", "it is") if len(self.outliers) == 1 else ("lie", "they are")
        return (
            f"{len(self.outliers)} of {self.count:,} values {lie} beyond {FAR:g} robust deviations{how} from the median: "
            f"{rows}{more}; look whether {from_} right"
        )


def lie(table: Table, name: str, modality: Modality) -> Lie | None:
    """How the numbers of a target's column lie, as the fitted ``modality`` reads them; None where it has no number."""
    read: Callable[[Any], float | None] = getattr(modality, "value", number)
    cells = enumerate(table.column(name))
    pairs = [(table.number(i), v) for i, cell in cells if not modality.missing(cell) and (v := read(cell)) is not None]
    values = [value for _, value in pairs]
    if not values:
        return None
    logarithmic = modality.logarithmic and min(values) > 0
    far = beyond([math.log(value) for value in values] if logarithmic else values)
    # A mean of halves, since the sum of large numbers may overflow.
    mean = math.fsum(value / len(values) for value in values)
    return Lie(
        len(values),
        min(values),
        mean,
        statistics.median(values),
        max(values),
        [pairs[i] for i in far],
        logarithmic,
    )


def beyond(values: Sequence[float], far: float = FAR) -> list[int]:
    """The places of the values beyond so many robust deviations of the median, the farthest first.

    The robust deviation is 1.4826 of the median distance from the median. Where more than half of all values are the same
    it is 0 and says nothing: none.
    """
    middle = statistics.median(values)
    away = [abs(value - middle) for value in values]
    robust = NORMAL * statistics.median(away)
    if robust <= 1e-12 * max(map(abs, values)):
        return []
    return sorted((i for i, distance in enumerate(away) if distance > far * robust), key=lambda i: -away[i])


def targets_told(schema: Schema, table: Table) -> Iterator[str]:
    """Of each target that is a number: its mean and its median over the training rows, and its outliers."""
    for column in schema.targets:
        if column.spec["kind"] != "number" or not table.has(column.source):
            continue
        found = lie(table, column.source, column.reader)
        if found is not None:
            yield f"{column.name}: mean {found.mean:g}, median {found.median:g} over {found.count:,} training rows"
            if told := found.told():
                yield f"{column.name}: {told}"

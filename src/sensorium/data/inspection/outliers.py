"""Distribution and outliers of a numeric target."""

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
"""Robust deviations from the median beyond which a value is an outlier; of normal values, one in two million is."""
NAMED = 5
"""Rows that the note lists."""
NORMAL = 1.4826
"""Ratio of the standard deviation of a normal distribution to its median absolute deviation."""


@dataclass(frozen=True)
class Distribution:
    """The distribution of a numeric target.

    Args:
        count: The number of values.
        low, mean, median, high: Minimum, mean, median and maximum.
        outliers: Row number and value of those beyond ``FAR`` robust deviations from the median, the farthest first.
        logarithmic: Whether deviations are of logarithms, as the target is learnt.
    """

    count: int
    low: float
    mean: float
    median: float
    high: float
    outliers: list[tuple[int, float]] = field(default_factory=list)
    logarithmic: bool = False

    def outlier_note(self) -> str:
        """A note on the outliers; empty where there are none."""
        if not self.outliers:
            return ""
        rows = ", ".join(f"row {row} ({value:g})" for row, value in self.outliers[:NAMED])
        more = f" and {len(self.outliers) - NAMED} more" if len(self.outliers) > NAMED else ""
        how = " of their logarithms" if self.logarithmic else ""
        verb, subject = ("lies", "it is") if len(self.outliers) == 1 else ("lie", "they are")
        return (
            f"{len(self.outliers)} of {self.count:,} values {verb} beyond {FAR:g} robust deviations{how} from the median: "
            f"{rows}{more}; check whether {subject} right"
        )


def distribution_of(table: Table, name: str, modality: Modality) -> Distribution | None:
    """Return the distribution of a target's values; None where it has none.

    Args:
        table: The table.
        name: The target column.
        modality: Its fitted modality.
    """
    read: Callable[[Any], float | None] = getattr(modality, "value", number)
    cells = enumerate(table.column(name))
    pairs = [(table.number(i), v) for i, cell in cells if not modality.missing(cell) and (v := read(cell)) is not None]
    values = [value for _, value in pairs]
    if not values:
        return None
    logarithmic = modality.logarithmic and min(values) > 0
    indices = outlier_indices([math.log(value) for value in values] if logarithmic else values)
    # Divide before summing, since the sum of large values may overflow.
    mean = math.fsum(value / len(values) for value in values)
    return Distribution(
        len(values),
        min(values),
        mean,
        statistics.median(values),
        max(values),
        [pairs[i] for i in indices],
        logarithmic,
    )


def outlier_indices(values: Sequence[float], far: float = FAR) -> list[int]:
    """Return the indices of outliers, the farthest first.

    The robust deviation is 1.4826 times the median absolute deviation. Where it is 0, since more than half of the values
    are equal, there are no outliers.

    Args:
        values: The values.
        far: Robust deviations from the median beyond which a value is an outlier.
    """
    median = statistics.median(values)
    distances = [abs(value - median) for value in values]
    robust = NORMAL * statistics.median(distances)
    if robust <= 1e-12 * max(map(abs, values)):
        return []
    return sorted((i for i, distance in enumerate(distances) if distance > far * robust), key=lambda i: -distances[i])


def target_notes(schema: Schema, table: Table) -> Iterator[str]:
    """Yield notes on each numeric target of ``schema`` in the training ``table``: mean, median and outliers."""
    for column in schema.targets:
        if column.spec["kind"] != "number" or not table.has(column.source):
            continue
        summary = distribution_of(table, column.source, column.reader)
        if summary is not None:
            yield f"{column.name}: mean {summary.mean:g}, median {summary.median:g} over {summary.count:,} training rows"
            if note := summary.outlier_note():
                yield f"{column.name}: {note}"

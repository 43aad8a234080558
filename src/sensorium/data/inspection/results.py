"""The findings of an inspection, as data and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from sensorium.core.rendering import Rendered
from sensorium.core.schema import Problem


@dataclass(frozen=True)
class ColumnReport:
    """The findings on one column.

    Args:
        name: The column.
        kind: The inferred modality.
        role: The inferred role.
        reason: Why.
        filled: The share of non-missing cells, by table that has the column.
        distinct: Distinct values in the training table.
        examples: Its most frequent values.
    """

    name: str
    kind: str
    role: str
    reason: str
    filled: dict[str, float]
    distinct: int
    examples: list[str]


@dataclass(frozen=True)
class TargetReport:
    """The findings on one target of the training table.

    Args:
        name: The target.
        kind: The inferred modality; empty where none fits.
        classes: Rows of each class, the most frequent first; empty for a number.
        majority: The share of the most frequent class, the accuracy of always predicting it.
        range: Minimum, mean and maximum of a number.
        missing: Rows without a value, by table that has the column.
        median: The median of a number.
        outliers: Row number and value of outliers, the farthest first.
        far: A note on the outliers.
    """

    name: str
    kind: str
    classes: dict[str, int]
    majority: float | None
    range: tuple[float, float, float] | None
    missing: dict[str, int]
    median: float | None = None
    outliers: list[tuple[int, float]] = field(default_factory=list)
    far: str = ""


@dataclass
class Inspection(Rendered):
    """The findings of ``inspect``. ``errors`` prevent training; ``warnings`` should be read before it.

    Args:
        tables: Rows of each table; the first is the training table.
        columns: The findings on columns.
        targets: The findings on targets.
        streams: Combinations of streams that occur together (``table``: any number, category or date), with rows by table.
        problems: Unusable cells, by table.
        hints: Suggestions with options to paste.
        errors: What prevents training.
        warnings: What to check before training.
    """

    renderer: ClassVar[str] = "inspection"

    tables: dict[str, int]
    columns: list[ColumnReport]
    targets: list[TargetReport]
    streams: list[tuple[tuple[str, ...], dict[str, int]]]
    problems: dict[str, list[Problem]]
    hints: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain JSON."""
        return {
            "tables": self.tables,
            "columns": [asdict(column) for column in self.columns],
            "targets": [{**asdict(t), "range": None if t.range is None else list(t.range)} for t in self.targets],
            "streams": [{"streams": list(streams), "rows": rows} for streams, rows in self.streams],
            "problems": {name: [problem._asdict() for problem in cells] for name, cells in self.problems.items()},
            "hints": self.hints,
            "errors": self.errors,
            "warnings": self.warnings,
        }

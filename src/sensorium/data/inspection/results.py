"""What a look at tables found, as data, as JSON and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from sensorium.core.rendering import Rendered
from sensorium.core.schema import Problem


@dataclass(frozen=True)
class ColumnReport:
    """One column: what it was taken for and why; how full it is (share of non-missing cells) in each table that has it."""

    name: str
    kind: str
    role: str
    reason: str
    filled: dict[str, float]
    distinct: int
    examples: list[str]


@dataclass(frozen=True)
class TargetReport:
    """The answers of the training table.

    Args:
        classes: Rows of each class, most frequent first; empty where the target is a number.
        majority: The share of the most frequent class: what always saying it would score.
        range: Least, mean and greatest, where the target is a number.
        missing: Rows without an answer, in each table that has the column.
        median: The middle value, where the target is a number.
        outliers: Row and value of those far from it, the farthest first.
        far: The same in a sentence.
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
    """What ``inspect`` found. ``errors`` stop a training; ``warnings`` should be read before one.

    Args:
        tables: Rows of each table; the first is the one for training.
        streams: Which streams rows have together (``table``: any number, category or date), with rows of each table.
        problems: Cells that cannot be used, by table.
        hints: What could be done otherwise, with the words to paste.
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
        """Plain JSON."""
        return {
            "tables": self.tables,
            "columns": [asdict(column) for column in self.columns],
            "targets": [{**asdict(t), "range": None if t.range is None else list(t.range)} for t in self.targets],
            "streams": [{"streams": list(streams), "rows": rows} for streams, rows in self.streams],
            "problems": {name: [problem._asdict() for problem in found] for name, found in self.problems.items()},
            "hints": self.hints,
            "errors": self.errors,
            "warnings": self.warnings,
        }

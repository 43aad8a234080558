"""Problems of single cells, which are reported and affect that cell only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """A cell that could not be used and is treated as missing; or, if not ``missing``, a cell whose value was changed: a
    value unknown from training, or a box beyond the edge of its image."""

    row: int | None
    column: str
    file: str | None
    problem: str
    missing: bool = True

    def __str__(self) -> str:
        place = ", ".join(p for p in (f"row {self.row}" if self.row is not None else "", f"column {self.column!r}") if p)
        return f"{place}: {self.file[:200] + ': ' if self.file else ''}{self.problem}"


def add_problem(
    problems: list[Problem] | None, row: int | None, column: str, file: Any, problem: str, *, missing: bool = True
) -> None:
    """Add to ``problems``, if given, that the cell of ``row`` and ``column`` could not be used.

    Args:
        problems: The list; None to record nothing.
        row: The row's number.
        column: The column.
        file: The cell's file, if it names one; anything else is not mentioned.
        problem: Description of the problem.
        missing: Whether the cell counts as missing.
    """
    if problems is not None:
        problems.append(Problem(row, column, str(file) if isinstance(file, (str, Path)) else None, problem, missing))

"""Problems of single cells, which are reported and affect that cell only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """A cell that could not be used and is treated as missing; or, if not ``missing``, a cell whose value was changed: a
    value unknown from training, or a box beyond the edge of its image. ``fix``: what to do about it, if that is known."""

    row: int | None
    column: str
    file: str | None
    problem: str
    missing: bool = True
    fix: str | None = None

    def __str__(self) -> str:
        place = ", ".join(p for p in (f"row {self.row}" if self.row is not None else "", f"column {self.column!r}") if p)
        return f"{place}: {self.file[:200] + ': ' if self.file else ''}{self.problem}"


def add_problem(
    problems: list[Problem] | None,
    row: int | None,
    column: str,
    file: Any,
    problem: str,
    *,
    missing: bool = True,
    fix: str | None = None,
) -> None:
    """Add to ``problems``, if given, that the cell of ``row`` and ``column`` could not be used.

    Args:
        problems: The list; None to record nothing.
        row: The row's number.
        column: The column.
        file: The cell's file, if it names one; anything else is not mentioned.
        problem: Description of the problem.
        missing: Whether the cell counts as missing.
        fix: What to do about it, if known.
    """
    if problems is not None:
        named = str(file) if isinstance(file, (str, Path)) else None
        problems.append(Problem(row, column, named, problem, missing, fix))


def problem_lines(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield a line for each of ``problems``, and after those of a column with the same remedy a line that says it."""
    groups: dict[tuple[str, str | None], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.column, problem.fix), []).append(problem)
    for (_, fix), group in groups.items():
        yield from (f"  {problem}" for problem in group)
        if fix:
            yield f"    → {fix}"

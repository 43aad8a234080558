"""Inspections as plain text in aligned columns, including wide (CJK) characters."""

from __future__ import annotations

from collections.abc import Iterator

from sensorium.core.plurals import counted
from sensorium.core.problem import problem_lines
from sensorium.core.text_columns import columns, shorten
from sensorium.data.inspection.results import Inspection, TargetReport

SHOWN = 12
LINES = 200
"""Maximum number of columns or warnings in the text; JSON has them all."""
BAR = 30


def text(inspection: Inspection) -> str:
    """Render the inspection ``inspection`` as text, from tables and columns to errors, warnings and hints."""
    return "\n".join(_lines(inspection)) + "\n"


def _lines(inspection: Inspection) -> Iterator[str]:
    yield " · ".join(f"{name} {counted(rows, 'row')}" for name, rows in inspection.tables.items())
    yield ""
    head = ("column", "kind", "role", "filled", "distinct", "examples", "why")
    yield from columns(
        [
            head,
            *(
                (
                    shorten(c.name, 32),
                    c.kind or "-",
                    c.role,
                    f"{next(iter(c.filled.values()), 0.0):.1%}",
                    f"{c.distinct:,}",
                    shorten(", ".join(c.examples), 44),
                    c.reason,
                )
                for c in inspection.columns[:LINES]
            ),
        ]
    )
    yield from _more(len(inspection.columns), LINES)
    for target in inspection.targets:
        yield ""
        yield from _target(target)
    if inspection.streams:
        yield ""
        yield "combinations of streams"
        shown = inspection.streams[:SHOWN]
        rows = [("", *inspection.tables)]
        for streams, counts in shown:
            shares = [f"{counts.get(t, 0) / n:.1%}" if n else "-" for t, n in inspection.tables.items()]
            rows.append((f"  {' + '.join(streams) or 'no stream'}", *shares))
        yield from columns(rows)
        yield from _more(len(inspection.streams), len(shown))
    for name, problems in inspection.problems.items():
        if problems:
            yield ""
            yield f"{name}: {counted(len(problems), 'cell')} that cannot be used"
            yield from problem_lines(problems[:SHOWN])
            yield from _more(len(problems), SHOWN)
    for title, mark, texts in (
        ("errors", "✗", inspection.errors),
        ("warnings", "!", inspection.warnings),
        ("hints", "·", inspection.hints),
    ):
        if texts:
            yield ""
            yield title
            yield from (f"  {mark} {text}" for text in texts[:LINES])
            yield from _more(len(texts), LINES)


def _target(target: TargetReport) -> Iterator[str]:
    if target.range is not None:
        low, mean, high = target.range
        yield f"target {target.name}: {low:g} to {high:g}, mean {mean:g}, median {target.median:g}"
        if target.far:
            yield f"  {target.far}"
    elif target.classes:
        summary = f"target {target.name}: {counted(len(target.classes), 'class', 'classes')}"
        baseline = "always predicting the most frequent class scores"
        yield summary if target.majority is None else f"{summary}; {baseline} {target.majority:.1%}"
        most = max(target.classes.values())
        shown = list(target.classes.items())[:SHOWN]
        bars = [(f"  {shorten(name, 32)}", f"{n:,}", "█" * max(round(n / most * BAR), 1)) for name, n in shown]
        yield from columns(bars)
        yield from _more(len(target.classes), len(shown))
    else:
        yield f"target {target.name}: {target.kind or 'unknown'}"


def _more(count: int, shown: int) -> Iterator[str]:
    if count > shown:
        yield f"  … and {count - shown:,} more"

"""A comparison as a table, a chart, Markdown and one HTML page."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from sensorium.evaluation.comparison import Comparison, Entry, spread_of
from sensorium.evaluation.formatting import number, words
from sensorium.reporting.bar_charts import Bar, bar_chart
from sensorium.reporting.charts import xy_chart
from sensorium.reporting.page import Section, table_html, write_page

HEAD = ("", "score", "vs best", "parameters", "CPU s", "memory MB", "robustness", "")


def text(comparison: Comparison) -> str:
    """Render ``comparison`` as text for a terminal."""
    rows = [HEAD, *table(comparison)]
    widths = [max(len(row[i]) for row in rows if not row[-1].startswith("skipped") or i == 0) for i in range(7)]
    lines = [f"{comparison.target}: {words(comparison.metric)} on {comparison.test}; {comparison.budget}"]
    for row in rows:
        cells = [
            f"{row[0]:{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:7], widths[1:], strict=True)),
        ]
        lines.append(("  " + "  ".join(cells) + f"  {row[7]}").rstrip())
    return "\n".join([*lines, "", *(f"  • {sentence}" for sentence in comparison.findings)])


def markdown(comparison: Comparison) -> str:
    """Render ``comparison`` as a Markdown table."""
    head = ("configuration", *HEAD[1:7], "significance")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table(comparison))])


def chart(comparison: Comparison) -> str:
    """Render ``comparison`` as an SVG bar chart: mean scores with standard deviations over the seeds."""
    bars = []
    for entry in (*comparison.entries, *comparison.others):
        spread = entry.spread
        bars.append(Bar(entry.way.name, entry.mean, entry.mean - spread, entry.mean + spread, faint=entry.way.single))
    plain = Bar("no input", comparison.baseline) if isfinite(comparison.baseline) else None
    title = f"{words(comparison.metric)} of {comparison.target} by {comparison.what}"
    return bar_chart(bars, title=title, reference=plain)


def write(comparison: Comparison, path: str | Path) -> Path:
    """Write ``comparison`` to ``path`` as a self-contained HTML page: table, scores and robustness."""
    name = words(comparison.metric)
    better = "" if comparison.higher_is_better else " Lower is better."
    note = (
        f"Scored on {comparison.test}. {comparison.budget}. Error bars show one standard deviation over the seeds.{better}"
    )
    sections = [
        Section(f"{comparison.target}: {name}", " ".join(comparison.findings), chart(comparison)),
        Section("Table", note, table_html(HEAD, table(comparison))),
    ]
    areas = [Bar(e.way.name, e.area) for e in comparison.entries if isfinite(e.area)]
    if areas:
        note = (
            "The share of the clean score retained as a stream is removed from growing shares of rows, mean over streams."
        )
        sections.append(Section("Robustness", note, bar_chart(areas, title=f"robustness area by {comparison.what}")))
    for stream in comparison.best.way.streams:
        lines = {e.way.name: (comparison.steps, e.curves[stream]) for e in comparison.entries[:4] if stream in e.curves}
        known = {o.way.name: o.mean for o in comparison.others if stream not in o.way.streams}
        if lines:
            curves = xy_chart(lines, title=f"{name} without {stream}", x_name="share of rows", y_name=name, levels=known)
            note = "The best four configurations; dashed lines: models trained without the stream, if there are any."
            sections.append(Section(f"{stream} removed", note, curves))
    return write_page(path, f"Comparison by {comparison.what}: {comparison.target}", sections)


def table(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the cells of the table of ``comparison``: configurations, the constant baseline, then skipped ones."""
    rows = [_row(comparison, entry) for entry in (*comparison.entries, *comparison.others)]
    if isfinite(comparison.baseline):
        rows.append(("no input", number(comparison.baseline), "", "", "", "", "", ""))
    return rows + [(name, "–", "", "", "", "", "", f"skipped: {why}") for name, why in comparison.skipped.items()]


def _row(comparison: Comparison, entry: Entry) -> tuple[str, ...]:
    gap, note = "", "best"
    if entry.behind is not None:
        sign = -1 if comparison.higher_is_better else 1
        low, high = sorted((sign * entry.behind.low, sign * entry.behind.high))
        gap = f"{sign * entry.behind.mean:+.3f} ({low:+.3f} … {high:+.3f})"
        note = (
            f"significant, p {'< 0.001' if entry.adjusted < 0.001 else f'= {entry.adjusted:.2g}'}"
            if entry.significant
            else "not significant"
        )
    return (
        entry.way.name,
        spread_of(entry),
        gap,
        f"{entry.parameters:,}",
        f"{entry.cpu:.1f}",
        f"{entry.memory / 1e6:.1f}",
        number(entry.area),
        note,
    )

"""An explanation for people: as text for a terminal, and as one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.evaluation.formatting import number
from sensorium.reporting.attribution_maps import FOR_IT, drawn, said
from sensorium.reporting.bar_charts import Bar, bar_chart
from sensorium.reporting.charts import shades
from sensorium.reporting.feature_maps import pictured
from sensorium.reporting.page import LEGEND, Section, write_page

if TYPE_CHECKING:
    from sensorium.evaluation.nearest_rows import Neighbour
    from sensorium.evaluation.stream_attribution import Attribution, Explanation, Values

OPEN = 2
"""Rows that are open from the start; the others unfold."""
SHOWN = 20
"""Rows described one by one; of more only what holds for all."""
MAPPED = 6
"""Rows of which each stream is looked into: a page of many would be long, and slow to make."""
WIDTH = 20
MOST_TOKENS = 64


def text(found: Explanation) -> str:
    """Every row where there are few, and what each stream did over all of them."""
    lines: list[str] = []
    for name, rows in found.targets.items():
        for one in rows if len(rows) <= 3 else ():
            lines += [*_row(name, one), *_maps(found, one.row, name), ""]
        if len(rows) > 1:
            lines += [f"{name}: how far each stream moves the answer, {len(rows)} rows (mean size of its share)"]
            lines += [*_bars(found.mean_shares(name), {}), ""]
    if found.weights is not None:
        count = f"mean of {len(found.weights)} rows" if len(found.weights) > 1 else "of this row"
        shares = dict(zip(found.streams, found.weights.mean(axis=0).tolist(), strict=True))
        lines += [f"What the fusion says it weighs ({count})", *_bars(shares, {})]
    else:
        lines += ["The fusion has no weights that can be read off."]
    return "\n".join(lines)


def _row(name: str, one: Attribution) -> list[str]:
    return [
        f"row {one.row}: {name} is {_said(one.answer)}: "
        f"{one.what} {number(one.value)}, {number(one.nothing)} knowing nothing",
        *_bars(one.shares, one.errors, one.missing),
        f"    sum {sum(one.shares.values()):+.4f} = {one.value:.4f} - {one.nothing:.4f}",
    ]


def _maps(found: Explanation, row: int, target: str) -> list[str]:
    """Where in each stream, and which training rows are most alike, a line each."""
    maps = found.maps_of(row, target)
    width = max((len(one.stream) for one in maps), default=0)
    lines = [f"    {one.stream:{width}}  {one.note or said(one)}" for one in maps]
    for near in found.nearest.get(row, []):
        known = ", ".join(f"{name} {value}" for name, value in near.targets.items())
        lines.append(f"    like training row {near.row} ({near.likeness:.3f}{': ' if known else ''}{known})")
    return lines


def _bars(shares: Mapping[str, float], errors: Mapping[str, float], missing: list[str] | None = None) -> list[str]:
    width = max(map(len, shares))
    top = max((abs(value) for value in shares.values()), default=0.0) or 1.0
    lines = []
    for stream, value in sorted(shares.items(), key=lambda item: -abs(item[1])):
        error = f" ± {errors[stream]:.4f}" if stream in errors else ""
        note = "  (the row has none)" if missing and stream in missing else ""
        bar = ("█" if value >= 0 else "░") * round(WIDTH * abs(value) / top)
        lines.append(f"    {stream:{width}}  {value:+.4f}{error}  {bar}{note}".rstrip())
    return lines


def _said(answer: Any) -> str:
    return (
        number(answer)
        if isinstance(answer, float)
        else ", ".join(map(str, answer))
        if isinstance(answer, list)
        else str(answer)
    )


def write_explanation(
    path: str | Path,
    found: Explanation,
    *,
    title: str,
    cells: Callable[[int], Mapping[str, str]] | None = None,
    neighbours: Callable[[int], Mapping[str, str]] | None = None,
) -> Path:
    """One self-contained page.

    Args:
        cells: Gives the cells of a row (by its number in the table) as safe HTML, by column.
        neighbours: The same of the training rows.
    """
    sections = []
    for name, rows in found.targets.items():
        if len(rows) > 1:
            bars = [Bar(s, v) for s, v in sorted(found.mean_shares(name).items(), key=lambda item: -item[1])]
            sections.append(
                Section(
                    f"{name}: over {len(rows)} rows",
                    "How far each stream moves the answer: the mean size of its Shapley value, either way.",
                    bar_chart(bars, title=f"mean share of each stream in {name}"),
                )
            )
    if found.weights is not None:
        bars = [Bar(s, w) for s, w in zip(found.streams, found.weights.mean(axis=0).tolist(), strict=True)]
        sections.append(
            Section(
                "What the fusion weighs",
                "The share that the fusion gives each stream: what is listened to, not what that did to the answer.",
                bar_chart(bars, title="weights of the fusion"),
            )
        )
    sections += [_inner(found, name, values) for name, values in found.inner.items()]
    for name, rows in found.targets.items():
        for i, one in enumerate(rows[:SHOWN]):
            section = _one(found, name, one, cells(one.row) if cells is not None else {})
            sections.append(section if len(rows) == 1 else section._replace(folds="open" if i < OPEN else "closed"))
    if found.features:
        kinds = {one.stream: one.kind for one in found.maps}
        told = (
            "The strongest channels of the last convolutions, light is strong: what was found in the row, for good or ill."
        )
        sections.append(Section("Feature maps", told, pictured(found.features, kinds), folds="open"))
    for i, (row, near) in enumerate(list(found.nearest.items())[:SHOWN]):
        body = "".join(_neighbour(one, neighbours(one.row) if neighbours is not None else {}) for one in near)
        told = "Training rows whose joint vector points most nearly the same way; the number is the cosine, 1 at most."
        sections.append(
            Section(
                f"Row {row}: what the model holds for most like it",
                told,
                f'<div class="rows">{body}</div>',
                folds="closed" if i else "open",
            )
        )
    return write_page(path, title, sections, key=LEGEND)


def _one(found: Explanation, name: str, one: Attribution, cells: Mapping[str, str]) -> Section:
    bars = [
        Bar(s, v, v - 2 * one.errors[s], v + 2 * one.errors[s], missing=s in one.missing)
        if one.errors
        else Bar(s, v, missing=s in one.missing)
        for s, v in sorted(one.shares.items(), key=lambda item: -abs(item[1]))
    ]
    text = f"{name} is {_said(one.answer)}: {one.what} {number(one.value)}; knowing nothing {number(one.nothing)}. {FOR_IT}"
    rest = {column: html for column, html in cells.items() if column not in one.missing}
    looked = "".join(
        f"<div><h3>{escape(m.stream)}</h3>{rest.pop(m.stream, '')}{drawn(m)}</div>"
        for m in found.maps_of(one.row, name)
        if m.stream not in one.missing
    )
    looked = f'<div class="maps">{looked}</div>' if looked else ""
    gone = f'<p class="none">The row has no {escape(", ".join(one.missing))}.</p>' if one.missing else ""
    chart = bar_chart(bars, title=f"row {one.row}: what each stream did", signed=True)
    heading = f"Row {one.row}: {name}" if len(found.targets) > 1 else f"Row {one.row}"
    return Section(heading, text, chart + gone + looked + _list(rest))


def _neighbour(one: Neighbour, cells: Mapping[str, str]) -> str:
    known = ", ".join(f"{name}: {value}" for name, value in one.targets.items())
    head = f"<h3>Training row {one.row} <small>{one.likeness:.3f}</small></h3><p>{escape(known)}</p>"
    return f"<article>{head}{_list(cells)}</article>"


def _list(cells: Mapping[str, str]) -> str:
    shown = "".join(f"<dt>{escape(column)}</dt><dd>{html}</dd>" for column, html in cells.items())
    return f"<dl>{shown}</dl>" if shown else ""


def why(found: Explanation, target: str, row: int) -> str:
    """One row's answer explained, to stand in another page: what each stream did, and where."""
    one = next((one for one in found.targets.get(target, []) if one.row == row), None)
    if one is None:
        return ""
    shares = sorted(one.shares.items(), key=lambda item: -abs(item[1]))
    bars = [Bar(s, v, missing=s in one.missing) for s, v in shares]
    chart = bar_chart(bars, title=f"row {row}: what each stream did to the {one.what}", signed=True)
    maps = "".join(f"<h5>{escape(m.stream)}</h5>{drawn(m)}" for m in found.maps_of(row, target))
    return f"<p>{escape(one.what)} {number(one.value)}; knowing nothing {number(one.nothing)}.</p>{chart}{maps}"


def _inner(found: Explanation, name: str, values: Values) -> Section:
    """A picture of gates ``[S, D]`` or of attention ``[N, N]`` between the streams' tokens."""
    values = np.atleast_2d(values.reshape(-1, values.shape[-1]))
    square = values.shape[0] == values.shape[1] == sum(found.tokens.values())
    if square:
        values = _thinned(_thinned(values).T).T
    labels = list(found.streams) if values.shape[0] == len(found.streams) else []
    said = ", ".join(f"{stream} {count}" for stream, count in found.tokens.items()) if square else ""
    note = (
        f"Dark is much. Rows look at columns; tokens by stream, one after the other: {said}." if square else "Dark is much."
    )
    return Section(f"The fusion's {name} in this row", note, shades(values.tolist(), labels, title=f"{name} of the fusion"))


def _thinned(values: Values) -> Values:
    """Neighbouring rows averaged until a page can show them."""
    step = -(-len(values) // MOST_TOKENS)
    return values if step == 1 else np.stack([values[i : i + step].mean(axis=0) for i in range(0, len(values), step)])

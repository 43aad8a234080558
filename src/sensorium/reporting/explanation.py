"""Explanations as text for a terminal and as an HTML page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.evaluation.formatting import number
from sensorium.reporting.attribution_maps import FOR_IT, drawn, summary
from sensorium.reporting.bar_charts import Bar, bar_chart
from sensorium.reporting.charts import shades
from sensorium.reporting.feature_maps import pictured
from sensorium.reporting.page import LEGEND, Section, write_page
from sensorium.reporting.span_strips import in_words, spans_of, strip

if TYPE_CHECKING:
    from sensorium.evaluation.nearest_rows import Neighbour
    from sensorium.evaluation.stream_attribution import Attribution, Explanation, Values

OPEN = 2
"""Number of rows expanded initially."""
SHOWN = 20
"""Maximum number of rows described individually."""
MAPPED = 6
"""Maximum number of rows with attribution maps, which are slow to compute."""
WIDTH = 20
MOST_TOKENS = 64
MOST_STEPS = 8
"""Maximum number of steps of a forecast that are written out."""


def text(explanation: Explanation) -> str:
    """Render the explanation ``explanation`` as text: each of few rows, and the mean contributions over all rows."""
    lines: list[str] = []
    for name, rows in explanation.targets.items():
        for attribution in rows if len(rows) <= 3 else ():
            lines += [*_row(name, attribution), *_maps(explanation, attribution.row, name), ""]
        if subjects := explanation.subjects.get(name, ()):
            listed = [f"    {i}  {words}" for i, words in enumerate(subjects, 1)]
            lines += [f"{name} can be explained in parts, with --about NUMBER:", *listed, ""]
        if len(rows) > 1:
            lines += [f"{name}: mean absolute contribution of each stream, {len(rows)} rows"]
            lines += [*_bars(explanation.mean_shares(name), {}), ""]
    if explanation.weights is not None:
        count = f"mean of {len(explanation.weights)} rows" if len(explanation.weights) > 1 else "of this row"
        shares = dict(zip(explanation.streams, explanation.weights.mean(axis=0).tolist(), strict=True))
        lines += [f"Fusion weights ({count})", *_bars(shares, {})]
    else:
        lines += ["This fusion has no stream weights to report."]
    return "\n".join(lines)


def _row(name: str, attribution: Attribution) -> list[str]:
    return [
        f"row {attribution.row}: {name} is {_answer_text(attribution.answer)}: "
        f"{attribution.what} {number(attribution.value)}, {number(attribution.nothing)} without any input",
        *_bars(attribution.shares, attribution.errors, attribution.missing),
        f"    sum {sum(attribution.shares.values()):+.4f} = {attribution.value:.4f} - {attribution.nothing:.4f}",
    ]


def _maps(explanation: Explanation, row: int, target: str) -> list[str]:
    """Return the strongest parts of each stream and the nearest training rows, one per line."""
    maps = explanation.maps_of(row, target)
    width = max((len(attribution_map.stream) for attribution_map in maps), default=0)
    lines = [
        f"    {attribution_map.stream:{width}}  {attribution_map.note or summary(attribution_map)}"
        for attribution_map in maps
    ]
    for near in explanation.nearest.get(row, []):
        known = ", ".join(f"{name} {_answer_text(value)}" for name, value in near.targets.items())
        lines.append(f"    similar to training row {near.row} ({near.likeness:.3f}{': ' if known else ''}{known})")
    return lines


def _bars(shares: Mapping[str, float], errors: Mapping[str, float], missing: list[str] | None = None) -> list[str]:
    width = max(map(len, shares))
    top = max((abs(value) for value in shares.values()), default=0.0) or 1.0
    lines = []
    for stream, value in sorted(shares.items(), key=lambda item: -abs(item[1])):
        error = f" ± {errors[stream]:.4f}" if stream in errors else ""
        note = "  (missing in this row)" if missing and stream in missing else ""
        bar = ("█" if value >= 0 else "░") * round(WIDTH * abs(value) / top)
        lines.append(f"    {stream:{width}}  {value:+.4f}{error}  {bar}{note}".rstrip())
    return lines


def _answer_text(answer: Any) -> str:
    """Return an answer as a line: points as ``nose (12.5, 40)``, boxes as ``dog [3, 4, 20, 30]``, and of a long forecast
    the first steps and the last."""
    if isinstance(answer, np.ndarray):  # a cell of the table: the future of a window, step by step
        answer = (answer[:, 0] if answer.ndim == 2 and answer.shape[1] == 1 else answer).tolist()
    if spans := spans_of(answer):
        return in_words(spans)
    if answer is None or (isinstance(answer, float) and math.isnan(answer)):
        return "missing"
    if isinstance(answer, float):
        return number(answer)
    if isinstance(answer, list):
        parts = (f"({_answer_text(part)})" if isinstance(part, list) else _answer_text(part) for part in answer)
        texts = list(parts)
        if len(texts) > MOST_STEPS and all(isinstance(part, (int, float, list)) for part in answer):
            texts = [*texts[: MOST_STEPS - 2], "…", f"{texts[-1]} ({len(texts):,} steps)"]
        return ", ".join(texts) or "nothing"
    if isinstance(answer, dict) and {"x", "y"} <= answer.keys():
        return f"({answer['x']:.4g}, {answer['y']:.4g})"
    if isinstance(answer, dict) and {"box", "label"} <= answer.keys():
        return f"{answer['label']} [{', '.join(f'{side:.4g}' for side in answer['box'])}]"
    if isinstance(answer, dict):
        return ", ".join(f"{name} {_answer_text(part)}" for name, part in answer.items())
    return str(answer)


def write_explanation(
    path: str | Path,
    explanation: Explanation,
    *,
    title: str,
    cells: Callable[[int], Mapping[str, str]] | None = None,
    neighbours: Callable[[int], Mapping[str, str]] | None = None,
) -> Path:
    """Write an explanation as a self-contained HTML page.

    Args:
        path: The file to write.
        explanation: The explanation.
        title: The heading of the page.
        cells: Returns the cells of a row (by its number in the table) as safe HTML, by column.
        neighbours: The same for training rows.
    """
    sections = []
    for name, rows in explanation.targets.items():
        if len(rows) > 1:
            bars = [Bar(s, v) for s, v in sorted(explanation.mean_shares(name).items(), key=lambda item: -item[1])]
            sections.append(
                Section(
                    f"{name}: over {len(rows)} rows",
                    "The mean absolute Shapley value of each stream.",
                    bar_chart(bars, title=f"mean absolute contribution of each stream to {name}"),
                )
            )
    if explanation.weights is not None:
        bars = [Bar(s, w) for s, w in zip(explanation.streams, explanation.weights.mean(axis=0).tolist(), strict=True)]
        sections.append(
            Section(
                "Fusion weights",
                "The weight that the fusion gives each stream, which is not its effect on the prediction.",
                bar_chart(bars, title="weights of the fusion"),
            )
        )
    sections += [_inner(explanation, name, values) for name, values in explanation.inner.items()]
    for name, rows in explanation.targets.items():
        for i, attribution in enumerate(rows[:SHOWN]):
            section = _one(explanation, name, attribution, cells(attribution.row) if cells is not None else {})
            sections.append(section if len(rows) == 1 else section._replace(folds="open" if i < OPEN else "closed"))
    if explanation.features:
        kinds = {attribution_map.stream: attribution_map.kind for attribution_map in explanation.maps}
        note = "The strongest channels of the last convolutions; lighter is stronger."
        sections.append(Section("Feature maps", note, pictured(explanation.features, kinds), folds="open"))
    for i, (row, near) in enumerate(list(explanation.nearest.items())[:SHOWN]):
        body = "".join(
            _neighbour(neighbour, neighbours(neighbour.row) if neighbours is not None else {}) for neighbour in near
        )
        note = "Training rows with the most similar fused vectors; the number is the cosine similarity, at most 1."
        sections.append(
            Section(
                f"Row {row}: nearest training rows",
                note,
                f'<div class="rows">{body}</div>',
                folds="closed" if i else "open",
            )
        )
    return write_page(path, title, sections, key=LEGEND)


def _one(explanation: Explanation, name: str, attribution: Attribution, cells: Mapping[str, str]) -> Section:
    bars = [
        Bar(s, v, v - 2 * attribution.errors[s], v + 2 * attribution.errors[s], missing=s in attribution.missing)
        if attribution.errors
        else Bar(s, v, missing=s in attribution.missing)
        for s, v in sorted(attribution.shares.items(), key=lambda item: -abs(item[1]))
    ]
    values = f"{attribution.what} {number(attribution.value)}; without any input {number(attribution.nothing)}"
    text = f"{name} is {_answer_text(attribution.answer)}: {values}. {FOR_IT}"
    rest = {column: html for column, html in cells.items() if column not in attribution.missing}
    looked = "".join(
        f"<div><h3>{escape(m.stream)}</h3>{rest.pop(m.stream, '')}{drawn(m)}</div>"
        for m in explanation.maps_of(attribution.row, name)
        if m.stream not in attribution.missing
    )
    looked = f'<div class="maps">{looked}</div>' if looked else ""
    gone = f'<p class="none">The row has no {escape(", ".join(attribution.missing))}.</p>' if attribution.missing else ""
    chart = bar_chart(bars, title=f"row {attribution.row}: contribution of each stream", signed=True)
    heading = f"Row {attribution.row}: {name}" if len(explanation.targets) > 1 else f"Row {attribution.row}"
    along = strip(spans_of(attribution.answer), f"row {attribution.row}: {name}")
    return Section(heading, text, along + chart + gone + looked + _list(rest))


def _neighbour(neighbour: Neighbour, cells: Mapping[str, str]) -> str:
    known = ", ".join(f"{name}: {_answer_text(value)}" for name, value in neighbour.targets.items())
    head = f"<h3>Training row {neighbour.row} <small>{neighbour.likeness:.3f}</small></h3><p>{escape(known)}</p>"
    return f"<article>{head}{_list(cells)}</article>"


def _list(cells: Mapping[str, str]) -> str:
    shown = "".join(f"<dt>{escape(column)}</dt><dd>{html}</dd>" for column, html in cells.items())
    return f"<dl>{shown}</dl>" if shown else ""


def prediction_html(explanation: Explanation, target: str, row: int) -> str:
    """Render the explanation of one prediction as HTML for another page; empty if there is none.

    Args:
        explanation: The explanation.
        target: The target.
        row: The row's number in its table.
    """
    attribution = next((attribution for attribution in explanation.targets.get(target, []) if attribution.row == row), None)
    if attribution is None:
        return ""
    shares = sorted(attribution.shares.items(), key=lambda item: -abs(item[1]))
    bars = [Bar(s, v, missing=s in attribution.missing) for s, v in shares]
    chart = bar_chart(bars, title=f"row {row}: contribution of each stream to the {attribution.what}", signed=True)
    maps = "".join(f"<h5>{escape(m.stream)}</h5>{drawn(m)}" for m in explanation.maps_of(row, target))
    values = f"{number(attribution.value)}; without any input {number(attribution.nothing)}"
    return f"<p>{escape(attribution.what)} {values}.</p>{chart}{maps}"


def _inner(explanation: Explanation, name: str, values: Values) -> Section:
    """A section with the gates ``[S, D]`` or the attention ``[N, N]`` between the streams' tokens as a heat map."""
    values = np.atleast_2d(values.reshape(-1, values.shape[-1]))
    square = values.shape[0] == values.shape[1] == sum(explanation.tokens.values())
    if square:
        values = _thinned(_thinned(values).T).T
    labels = list(explanation.streams) if values.shape[0] == len(explanation.streams) else []
    counts = ", ".join(f"{stream} {count}" for stream, count in explanation.tokens.items()) if square else ""
    note = f"Darker is larger. Rows attend to columns; tokens in stream order: {counts}." if square else "Darker is larger."
    return Section(f"The fusion's {name} in this row", note, shades(values.tolist(), labels, title=f"{name} of the fusion"))


def _thinned(values: Values) -> Values:
    """Average neighbouring rows down to at most ``MOST_TOKENS``."""
    step = -(-len(values) // MOST_TOKENS)
    return values if step == 1 else np.stack([values[i : i + step].mean(axis=0) for i in range(0, len(values), step)])

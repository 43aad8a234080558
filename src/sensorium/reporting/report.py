"""Evaluation reports as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sensorium.core.answer import attachments, without_media
from sensorium.core.errors import CellError
from sensorium.data.tables.records import media_opener
from sensorium.data.tables.table import Table
from sensorium.evaluation.baselines import EXPERTS, TOGETHER, ComponentScores, shown_streams
from sensorium.evaluation.findings import shares
from sensorium.evaluation.formatting import number, words
from sensorium.evaluation.results import Evaluation, TargetScores
from sensorium.evaluation.robustness import Robustness
from sensorium.evaluation.stream_subsets import label
from sensorium.reporting import charts
from sensorium.reporting.bar_charts import Bar, bar_chart
from sensorium.reporting.cell_html import chosen, shown
from sensorium.reporting.learning_curves import curves as learning_curves
from sensorium.reporting.learning_curves import line_chart
from sensorium.reporting.page import LEGEND
from sensorium.reporting.svg import STYLE
from sensorium.reporting.view_html import attachment_html, view_html

Media = Callable[[Mapping[str, Any], str], bytes | None]
BARS = 15
LONGEST = 300
"""Maximum number of characters shown of a prediction."""
PROBLEMS = 500
OPEN = 3
"""Number of rows expanded initially."""
STREAMS = 6
"""Maximum number of single streams shown in the chart of components."""
MEDIA = 12_000_000
SMALL = 2000
"""Budget in bytes for images and audio on a page, and the size below which items are shown even beyond it."""


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    *,
    title: str,
    summary: Mapping[str, Any] | None = None,
    curves: Sequence[Mapping[str, float]] = (),
    rows: Sequence[Mapping[str, Any]] = (),
    media: Media | None = None,
    kinds: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
    recipe_yaml: str = "",
    hardest: int = 12,
    least_sure: int = 6,
    card: Sequence[tuple[str, str]] = (),
    explained: Callable[[str, int], str] | None = None,
) -> Path:
    """Write the report of an evaluation.

    Args:
        path: The file to write.
        evaluation: The evaluation.
        title: The heading of the page.
        summary: Facts to list under it: rows, model, time taken.
        curves: The training history: for each epoch, values by name.
        rows: The evaluated rows, in order; only those shown are read.
        media: Returns the bytes of a row's media cell, or None.
        kinds: The kind of each input column (``image``, ``audio``, ``series``, ``text``, …), in display order.
        problems: Data problems, one sentence each.
        recipe_yaml: The recipe.
        hardest: Number of rows with the largest losses to show for each target.
        least_sure: Number of least certain rows to show for each target.
        card: The model card as pairs of heading and text.
        explained: Returns the explanation of a target and row (from 0) as safe HTML; empty for none.
    """
    room = Room(MEDIA)
    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters |= {"number": number}
    template = env.from_string(files("sensorium.reporting").joinpath("report.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        title=title,
        style=Markup(STYLE),
        key=Markup(LEGEND),
        open_rows=OPEN,
        summary=dict(summary or {}),
        evaluation=evaluation,
        targets=[
            _target(
                t, Shown(rows, media, kinds or {}, explained, room), hardest, least_sure, evaluation.robustness.get(t.name)
            )
            for t in evaluation.targets.values()
        ],
        curves=[
            {"name": name, "chart": Markup(line_chart(lines, title=f"{name} by epoch", y_name=name))}
            for name, lines in learning_curves(curves).items()
        ],
        problems=list(problems[:PROBLEMS]),
        more_problems=max(0, len(problems) - PROBLEMS),
        recipe=recipe_yaml,
        card=list(card),
    )
    out = Path(path)
    out.write_text(page, encoding="utf-8")
    return out


class Room:
    """The remaining budget of a page for images and audio, in bytes: ``left``."""

    def __init__(self, left: int) -> None:
        self.left = left

    def fit(self, html: str) -> str:
        """Return ``html`` if it fits in the budget, otherwise a note."""
        if len(html) > max(self.left, SMALL):
            return '<span class="none">omitted to keep this page small</span>'
        self.left -= len(html)
        return html


@dataclass
class Shown:
    """The data needed to show rows (see ``write_report``)."""

    rows: Sequence[Mapping[str, Any]]
    media: Media | None
    kinds: Mapping[str, str]
    explained: Callable[[str, int], str] | None
    room: Room


def _target(target: TargetScores, shown: Shown, hardest: int, least_sure: int, robust: Robustness | None) -> dict[str, Any]:
    """The template variables of one target."""
    name = target.named()
    values: dict[str, Any] = {"scores": target, "tiles": _tiles(target), "subsets": None}
    if len(target.subsets) > 1:
        values["subsets"] = Markup(_subset_chart(target))
        values["shares"] = shares(target)
    values["views"] = [drawn for view in target.views if (drawn := view_html(view, target.name, shown.room))]
    values["robustness_curves"] = None if robust is None else robust.curves
    values["areas"] = [] if robust is None else [robust.removal_area, robust.corruption_area]
    values["parts"] = None if target.floor is None else Markup(parts_chart(target.floor))
    values["robustness"] = [] if robust is None else [Markup(chart) for chart in robustness_charts(robust)]
    hard = [i for i in target.hardest(hardest) if i < len(shown.rows)]
    unsure = [i for i in target.least_sure(least_sure + hardest) if i < len(shown.rows) and i not in hard][:least_sure]
    values["hardest"] = [_row(target, i, shown) for i in hard]
    values["least_sure"] = [_row(target, i, shown) for i in unsure]
    values["headline"] = name
    return values


def _tiles(target: TargetScores) -> list[dict[str, str]]:
    """The key figures of a target."""
    head = target.headline
    low, high = target.intervals[head]
    tiles = [
        {"value": number(target.metrics[head]), "name": target.named(), "note": f"95 %: {number(low)} – {number(high)}"}
    ]
    if target.baseline:
        tiles.append({"value": number(target.baseline[head]), "name": "without any input", "note": target.baseline_name})
    singles = {
        s: target.subsets[s][head] for s in target.whole if s in target.subsets and isfinite(target.subsets[s][head])
    }
    if len(target.whole) > 1 and singles:
        best = (max if target.higher_is_better else min)(singles, key=lambda s: singles[s])
        tiles.append({"value": number(singles[best]), "name": "best single stream", "note": f"{best} alone"})
    ranked = shares(target)
    if ranked and isfinite(ranked[0][1]):
        stream, share = ranked[0]
        tiles.append(
            {"value": stream, "name": "most important stream", "note": f"contributes {share:+.3g} {target.named()}"}
        )
    return tiles


def _subset_chart(target: TargetScores) -> str:
    """Chart the headline metric with each subset of streams, best first; of many subsets, only singles and all-but-one."""
    subsets = list(target.subsets)
    if len(subsets) > BARS:
        streams = target.whole
        without = [label(tuple(s for s in streams if s != stream)) for stream in streams]
        subsets = [label(streams), *without, *streams]
    head, most = target.headline, label(target.whole)
    values = [Bar(s, target.subsets[s][head], *target.subset_intervals[s], faint=s != most) for s in subsets]
    values.sort(key=lambda b: (not isfinite(b.value), -b.value if target.higher_is_better else b.value))
    plain = Bar("without any input", target.baseline[target.headline]) if target.baseline else None
    return bar_chart(values, title=f"{target.named()} by streams", reference=plain)


def parts_chart(parts: ComponentScores) -> str:
    """Chart the scores in ``parts`` of the ensemble, the network and each expert, then of single streams."""
    names = {part: part for part in parts.scores if part in parts.share}
    names |= {EXPERTS: "all experts, no network"} if EXPERTS in parts.scores else {}
    bars = [Bar("ensemble", parts.scores[TOGETHER])]
    bars += [Bar(name, parts.scores[part], faint=True) for part, name in names.items()]
    for stream in shown_streams(parts, STREAMS):
        if (best := parts.best_on(stream)) is not None:
            bars.append(Bar(f"{stream} alone: ensemble", parts.whole[stream]))
            bars.append(Bar(f"{stream} alone: {best[0]}", best[1], faint=True))
    return bar_chart(bars, title=f"{parts.name} of each component")


def robustness_charts(result: Robustness) -> list[str]:
    """Chart, for each stream in ``result``, the score under removal and corruption, beside models trained without it."""
    made = []
    for stream in dict.fromkeys(curve.stream for curve in result.curves):
        lines = {curve.how: (curve.steps, curve.scores) for curve in result.of(stream)}
        best = result.references.get(stream)
        known = {} if best is None else {f"trained without it ({best.name})": best.score}
        name = words(result.metric)
        title = f"{name} as {stream} degrades"
        made.append(charts.xy_chart(lines, title=title, x_name=f"{stream}: share or level", y_name=name, levels=known))
    return made


def _row(target: TargetScores, index: int, shown: Shown) -> dict[str, Any]:
    row = shown.rows[index]
    prediction = target.predictions[index]
    chance = prediction.get("probabilities", {})
    value, truth = prediction["value"], target.truths[index]
    label_text = str(value)
    sure = f"{100 * chance[label_text]:.0f} %" if label_text in chance else ""
    columns = shown.kinds or {name: "text" for name in row if name != target.name}
    chosen_columns = chosen(columns)
    why = shown.explained(target.name, index) if shown.explained is not None else ""
    second = sorted(chance, key=lambda name: -chance[name])[1:2] if sure else []
    return {
        "index": index + 1,
        "why": Markup(shown.room.fit(why)),
        "second": f"{second[0]}, {100 * chance[second[0]]:.0f} %" if second else "",
        "truth": "unknown" if target.truths[index] is None else _value_text(target.truths[index]),
        "prediction": _value_text(value),
        "wrong": not isinstance(value, float) and target.truths[index] is not None and _differ(value, target.truths[index]),
        "media": Markup(
            "".join(shown.room.fit(attachment_html(attachment)) for attachment in attachments([prediction, truth]))
        ),
        "sure": sure,
        "loss": number(float(target.losses[index])),
        "cells": [
            {
                "name": name,
                "kind": columns[name],
                "html": Markup(shown.room.fit(cell_html(row, name, columns[name], shown.media))),
            }
            for name in chosen_columns
        ],
        "hidden": len(columns) - len(chosen_columns),
    }


def _differ(answered: Any, true: Any) -> bool:
    """Whether a prediction differs from the truth; never for media, where equality is not meaningful."""
    return not (attachments(answered) or attachments(true)) and bool(answered != true)


def _value_text(value: Any) -> str:
    """A value as text; media are only named, as they are shown beside."""
    value = without_media(value)
    if isinstance(value, float):
        return number(value)
    text = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def cell_html(row: Mapping[str, Any], name: str, kind: str, media: Media | None) -> str:
    """Render the cell ``name`` (of ``kind``) of ``row`` as self-contained HTML; ``media`` returns the bytes of cells."""
    try:
        data = media(row, name) if media is not None and kind in ("image", "audio", "series") else None
    except CellError as error:
        return str(Markup('<span class="none">cannot be opened: {}</span>').format(error.problem))
    return shown(row.get(name), kind, data, name=name)


def cells_of(table: Table, kinds: Mapping[str, str]) -> Callable[[int], dict[str, str]]:
    """A function that gives the input cells of a row of ``table``, counted from 1, as HTML by column; ``kinds`` by
    column."""
    media = media_opener(table)

    def cells(number: int) -> dict[str, str]:
        record = table.row(number - 1)
        return {name: cell_html(record, name, kinds[name], media) for name in chosen(kinds)}

    return cells

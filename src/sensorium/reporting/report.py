"""An evaluation as one HTML file: it needs no network and no other file, and can be mailed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sensorium.core.answer import attachments, light
from sensorium.core.errors import CellError
from sensorium.evaluation.baselines import EXPERTS, TOGETHER, Floor, shown_streams
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
"""Characters of an answer that are shown."""
PROBLEMS = 500
OPEN = 3
"""Rows that are open from the start; the others unfold."""
STREAMS = 6
"""Streams of which a page shows what the parts reach on each alone."""
MEDIA = 12_000_000
SMALL = 2000
"""Bytes of pictures and sounds on a page, and what is shown even when those are used up."""


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
    """Writes the report of an evaluation.

    Args:
        title: The page's heading.
        summary: Facts to list under it, as the page should say them: rows, model, time taken.
        curves: One mapping of names to values for each epoch.
        rows: The evaluated rows, in the order of the evaluation; only the hardest are looked at.
        media: Gives the bytes behind a row's media cell, or None.
        kinds: The kind of each input column (``image``, ``audio``, ``series``, ``text``, …), in the order to show them.
        problems: What was wrong with the data, a sentence each.
        recipe_yaml: The whole recipe.
        hardest: How many of the hardest rows to show for each target.
        least_sure: How many of the rows that the model was least sure of.
        card: What the model is, what it is meant for and where its limits are: a heading and a sentence or two each.
        explained: Gives, for a target and a row (counted from 0), why it was answered so, as safe HTML; empty: nothing.
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
    """How much of a page is left for pictures and sounds, in bytes: a report must open on a telephone."""

    def __init__(self, left: int) -> None:
        self.left = left

    def fit(self, html: str) -> str:
        """The same, while there is room."""
        if len(html) > max(self.left, SMALL):
            return '<span class="none">left out, so that this page stays small</span>'
        self.left -= len(html)
        return html


@dataclass
class Shown:
    """What is needed to show rows."""

    rows: Sequence[Mapping[str, Any]]
    media: Media | None
    kinds: Mapping[str, str]
    explained: Callable[[str, int], str] | None
    room: Room


def _target(target: TargetScores, shown: Shown, hardest: int, least_sure: int, robust: Robustness | None) -> dict[str, Any]:
    """What the template needs to know of one target."""
    name = target.named()
    found: dict[str, Any] = {"scores": target, "tiles": _tiles(target), "subsets": None}
    if len(target.subsets) > 1:
        found["subsets"] = Markup(_subset_chart(target))
        found["shares"] = shares(target)
    found["views"] = [drawn for view in target.views if (drawn := view_html(view, target.name, shown.room))]
    found["bears"] = None if robust is None else robust.curves
    found["areas"] = [] if robust is None else [robust.removal_area, robust.corruption_area]
    found["parts"] = None if target.floor is None else Markup(parts_chart(target.floor))
    found["robustness"] = [] if robust is None else [Markup(chart) for chart in robustness_charts(robust)]
    hard = [i for i in target.hardest(hardest) if i < len(shown.rows)]
    unsure = [i for i in target.least_sure(least_sure + hardest) if i < len(shown.rows) and i not in hard][:least_sure]
    found["hardest"] = [_row(target, i, shown) for i in hard]
    found["least_sure"] = [_row(target, i, shown) for i in unsure]
    found["headline"] = name
    return found


def _tiles(target: TargetScores) -> list[dict[str, str]]:
    """The few numbers to see first."""
    head = target.headline
    low, high = target.intervals[head]
    tiles = [
        {"value": number(target.metrics[head]), "name": target.named(), "note": f"95 %: {number(low)} – {number(high)}"}
    ]
    if target.baseline:
        tiles.append({"value": number(target.baseline[head]), "name": "without any input", "note": target.nothing})
    singles = {
        s: target.subsets[s][head] for s in target.whole if s in target.subsets and isfinite(target.subsets[s][head])
    }
    if len(target.whole) > 1 and singles:
        best = (max if target.higher_is_better else min)(singles, key=lambda s: singles[s])
        tiles.append({"value": number(singles[best]), "name": "best single stream", "note": f"{best} alone"})
    ranked = shares(target)
    if ranked and isfinite(ranked[0][1]):
        stream, share = ranked[0]
        tiles.append({"value": stream, "name": "mattered most", "note": f"brought {share:+.3g} {target.named()}"})
    return tiles


def _subset_chart(target: TargetScores) -> str:
    """The headline with each subset of streams, the best first; of very many only the telling ones."""
    subsets = list(target.subsets)
    if len(subsets) > BARS:
        whole = target.whole
        without = [label(tuple(s for s in whole if s != stream)) for stream in whole]
        subsets = [label(whole), *without, *whole]
    head, most = target.headline, label(target.whole)
    values = [Bar(s, target.subsets[s][head], *target.subset_intervals[s], faint=s != most) for s in subsets]
    values.sort(key=lambda b: (not isfinite(b.value), -b.value if target.higher_is_better else b.value))
    plain = Bar("without any input", target.baseline[target.headline]) if target.baseline else None
    return bar_chart(values, title=f"{target.named()} by streams", reference=plain)


def parts_chart(found: Floor) -> str:
    """What all together, the network and each expert reach; then all and the best expert, on each stream alone."""
    names = {part: part for part in found.scores if part in found.share}
    names |= {EXPERTS: "all experts, no network"} if EXPERTS in found.scores else {}
    bars = [Bar("all together", found.scores[TOGETHER])]
    bars += [Bar(name, found.scores[part], faint=True) for part, name in names.items()]
    for stream in shown_streams(found, STREAMS):
        if (best := found.best_on(stream)) is not None:
            bars.append(Bar(f"{stream} alone: together", found.whole[stream]))
            bars.append(Bar(f"{stream} alone: {best[0]}", best[1], faint=True))
    return bar_chart(bars, title=f"{found.name} of each part")


def robustness_charts(found: Robustness) -> list[str]:
    """A chart for each stream: the score as it is removed, as it is spoiled, and that of models that never had it."""
    made = []
    for stream in dict.fromkeys(curve.stream for curve in found.curves):
        lines = {curve.how: (curve.steps, curve.scores) for curve in found.of(stream)}
        best = found.references.get(stream)
        known = {} if best is None else {f"trained without it ({best.name})": best.score}
        name = words(found.metric)
        title = f"{name} as {stream} goes bad"
        made.append(charts.xy_chart(lines, title=title, x_name=f"{stream}: share or level", y_name=name, levels=known))
    return made


def _row(target: TargetScores, index: int, shown: Shown) -> dict[str, Any]:
    row = shown.rows[index]
    prediction = target.predictions[index]
    chance = prediction.get("probabilities", {})
    value, truth = prediction["value"], target.truths[index]
    said = str(value)
    sure = f"{100 * chance[said]:.0f} %" if said in chance else ""
    columns = shown.kinds or {name: "text" for name in row if name != target.name}
    some = chosen(columns)
    why = shown.explained(target.name, index) if shown.explained is not None else ""
    second = sorted(chance, key=lambda name: -chance[name])[1:2] if sure else []
    return {
        "index": index + 1,
        "why": Markup(shown.room.fit(why)),
        "second": f"{second[0]}, {100 * chance[second[0]]:.0f} %" if second else "",
        "truth": "unknown" if target.truths[index] is None else _said(target.truths[index]),
        "prediction": _said(value),
        "wrong": not isinstance(value, float) and target.truths[index] is not None and _differ(value, target.truths[index]),
        "media": Markup("".join(shown.room.fit(attachment_html(one)) for one in attachments([prediction, truth]))),
        "sure": sure,
        "loss": number(float(target.losses[index])),
        "cells": [
            {
                "name": name,
                "kind": columns[name],
                "html": Markup(shown.room.fit(cell_html(row, name, columns[name], shown.media))),
            }
            for name in some
        ],
        "hidden": len(columns) - len(some),
    }


def _differ(answered: Any, true: Any) -> bool:
    """Whether an answer is plainly another than the true one; of media nobody can tell so."""
    return not (attachments(answered) or attachments(true)) and bool(answered != true)


def _said(value: Any) -> str:
    """A value in words; of a medium what it is, since it is shown beside."""
    value = light(value)
    if isinstance(value, float):
        return number(value)
    text = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def cell_html(row: Mapping[str, Any], name: str, kind: str, media: Media | None) -> str:
    """One cell of a row as HTML that needs no other file."""
    try:
        data = media(row, name) if media is not None and kind in ("image", "audio", "series") else None
    except CellError as error:
        return str(Markup('<span class="none">cannot be opened: {}</span>').format(error.problem))
    return shown(row.get(name), kind, data, name=name)

"""Learning curves: training and validation loss in one chart, every other score in its own chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import isfinite
from pathlib import Path

from sensorium.evaluation.score_accumulator import UNWEIGHTED
from sensorium.reporting.svg import HUES, STYLE, Frame, W, drawing, legend

SKIP = ("epoch", "step", "lr", "seconds", "time", "learning_rate")
VALID, TRAIN = "valid_", "train_"
MINIMISED = "training objective"
HEIGHT = 280.0


def line_chart(lines: Mapping[str, Sequence[float]], *, title: str, x_name: str = "epoch", y_name: str = "") -> str:
    """Render lines over 1, 2, 3, …; non-finite values leave gaps.

    Args:
        lines: The values by name.
        title: Accessible name of the chart.
        x_name: Label of the x axis.
        y_name: Label of the y axis.
    """
    values = [v for line in lines.values() for v in line if isfinite(v)]
    longest = max((len(line) for line in lines.values()), default=1)
    key, head = legend(list(lines), 52.0)
    frame = Frame((1, max(longest, 1)), (min(values, default=0.0), max(values, default=1.0)), height=220 + head)
    frame.top = head
    parts = [*frame.axes(x_name, y_name, counted=True), *key]
    for i, (line, hue) in enumerate(zip(lines.values(), cycle(HUES), strict=False)):
        points = [(frame.x(i), frame.y(v)) if isfinite(v) else None for i, v in enumerate(line, start=1)]
        path, pen = "", "M"
        for point in points:
            path += f"{pen}{point[0]:.1f} {point[1]:.1f}" if point else ""
            pen = "L" if point else "M"
        dashed = ' stroke-dasharray="5 3"' if i >= len(HUES) else ""
        parts.append(
            f'<path d="{path}" fill="none" style="stroke:{hue}" stroke-width="2" stroke-linejoin="round"{dashed}/>'
        )
        known = [point for point in points if point]
        for px, py in known if len(known) <= 20 else known[-1:]:
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" style="fill:{hue}"/>')
    return drawing(W, frame.height, title, parts)


def curves(history: Sequence[Mapping[str, float]]) -> dict[str, dict[str, list[float]]]:
    """Group a training history into charts: by chart, its lines by name.

    Training and validation loss share a chart, every other score has its own. Losses are unweighted, with one chart per
    task. The weighted training objective is a separate chart; a history without unweighted losses has only the objective.

    Args:
        history: For each epoch, values by name.
    """
    names = [name for name in dict.fromkeys(key for epoch in history for key in epoch) if name not in SKIP]
    known = {name: values for name in names if any(map(isfinite, values := [_number(e.get(name)) for e in history]))}
    plain = [name.removeprefix(f"{VALID}{UNWEIGHTED}_") for name in known if name.startswith(f"{VALID}{UNWEIGHTED}_")]
    tasks = plain or [name.removeprefix(f"{VALID}loss_") for name in known if name.startswith(f"{VALID}loss_")]
    charts: dict[str, dict[str, list[float]]] = {}
    for name, values in known.items():
        chart, line = _place(name, tasks, bool(plain))
        if line:
            charts.setdefault(chart, {})[line] = values
    # The loss comes first.
    return dict(sorted(charts.items(), key=lambda item: not item[0].startswith("loss")))


def _place(name: str, tasks: Sequence[str], plain: bool) -> tuple[str, str]:
    """The chart of a value of the history and its line's name; an empty name leaves it out.

    ``plain``: whether the history has unweighted losses.
    """
    split, _, rest = name.partition("_")
    split = {"train": "training", "valid": "validation"}.get(split, "")
    if not split:
        return name.replace("_", " ").replace("/", " "), name.replace("_", " ").replace("/", " ")
    if rest.startswith(f"{UNWEIGHTED}_"):
        return _loss(rest.removeprefix(f"{UNWEIGHTED}_"), tasks), split
    if plain and (split == "training" or rest == "loss" or rest.startswith("loss_")):
        return MINIMISED, _minimised(split, rest, tasks)
    if split == "training":  # every such value is a term of the loss
        task, _, part = rest.partition("/")
        part = f", {'streams left out' if part == 'subsets' else part}" if part else ""
        if task in tasks:
            return _loss(task, tasks), f"training{part}"
        other = "" if rest == "loss" else f": {task.replace('_', ' ')}{part}"
        return ("loss", f"{split}{other}")
    if rest == "loss":  # with a single task, it equals that task's loss
        return "loss", "" if len(tasks) == 1 else split if not tasks else "validation, all targets"
    task = rest.removeprefix("loss_")
    if rest.startswith("loss_") and task in tasks:
        return _loss(task, tasks), split
    return rest.replace("_", " "), split


def _minimised(split: str, rest: str, tasks: Sequence[str]) -> str:
    """The name of a term of the training objective; empty if it duplicates another."""
    if split == "validation":
        task = rest.removeprefix("loss_")
        if rest == "loss":
            return "" if len(tasks) == 1 else "validation, all targets"
        return split if len(tasks) == 1 else f"validation: {task}"
    task, _, part = rest.partition("/")
    part = f", {'streams left out' if part == 'subsets' else part}" if part else ""
    return f"{split}{part}" if [task] == list(tasks) else f"{split}: {task.replace('_', ' ')}{part}"


def _loss(task: str, tasks: Sequence[str]) -> str:
    return "loss" if len(tasks) == 1 else f"loss of {task}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def curves_svg(history: Sequence[Mapping[str, float]], path: str | Path) -> Path:
    """Write the learning curves as a standalone SVG file.

    Args:
        history: For each epoch, values by name.
        path: The ``.svg`` file to write.
    """
    charts = curves(history) or {"nothing was recorded": {}}
    parts = [f'<style>{STYLE}</style><rect width="100%" height="100%" style="fill:var(--page)"/>']
    for i, (name, lines) in enumerate(charts.items()):
        inner = line_chart(lines, title=name, y_name=name)
        size = f'<svg width="{W}" height="{HEIGHT - 30:g}" '
        parts.append(f'<g transform="translate(0 {i * HEIGHT + 12:g})">{inner.replace("<svg ", size, 1)}</g>')
    document = drawing(W, HEIGHT * len(charts), "learning curves", parts)
    out = Path(path)
    out.write_text(document.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1), encoding="utf-8")
    return out

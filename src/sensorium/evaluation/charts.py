"""Small charts as inline SVG. Colours are CSS variables of the page around them, so they follow light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from pathlib import Path
from typing import NamedTuple

from sensorium.core.views import Curve
from sensorium.evaluation.findings import number
from sensorium.evaluation.overlay import rgba

W = 440  # near the width of a phone, so that text keeps its size there
HUES = ("var(--accent)", "var(--second)", "var(--third)", "var(--soft)")
STYLE = (
    ":root{--ink:#1d2430;--soft:#667085;--line:#d9dee7;--accent:#2563c9;--second:#c2570c;--third:#0f8a6a;--page:#fff}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#344054;--accent:#6ea8ff;"
    "--second:#f59e5b;--third:#4cc9a4;--page:#12161d}}"
)


class Bar(NamedTuple):
    """One bar: a value and, where known, its interval; faint beside the ones to look at first."""

    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    faint: bool = False


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}" class="chart"'
    return f'{head} font-family="system-ui,sans-serif" font-size="12"><title>{escape(title)}</title>{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "var(--soft)", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:{colour}" {more}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "var(--line)", more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{colour}" {more}/>'


def _rect(x: float, y: float, wide: float, high: float, colour: str, more: str = "") -> str:
    size = f'width="{max(0.0, wide):.1f}" height="{max(0.0, high):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} style="fill:{colour}" {more}/>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers over a range: 1, 2, 2.5 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    unit = 10.0 ** floor(log10(rough))
    step = next((unit * m for m in (1, 2, 2.5, 5) if unit * m >= rough), unit * 10)
    first = ceil(low / step - 1e-9)
    return [i * step for i in range(first, floor(high / step + 1e-9) + 1)]


class _Frame:
    """The axes of a chart: numbers to places on the page."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: float = 240) -> None:
        self.height, self.left, self.right, self.top, self.bottom = height, 52.0, W - 12.0, 12.0, height - 40.0
        self.x_low, self.x_high = x if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
        self.y_low, self.y_high = y if y[1] > y[0] else (y[0] - 0.5, y[0] + 0.5)

    def x(self, value: float) -> float:
        return self.left + (value - self.x_low) / (self.x_high - self.x_low) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.y_low) / (self.y_high - self.y_low) * (self.bottom - self.top)

    def axes(self, x_name: str, y_name: str, *, counted: bool = False) -> list[str]:
        """Ticks, lines and names; ``counted`` keeps to whole numbers along the bottom."""
        parts = []
        for value in ticks(self.y_low, self.y_high):
            parts += [_line(self.left, self.y(value), self.right, self.y(value))]
            parts += [_text(self.left - 6, self.y(value) + 4, f"{value:.4g}", anchor="end")]
        for value in ticks(self.x_low, self.x_high):
            if counted and value != round(value):
                continue
            parts.append(_text(self.x(value), self.bottom + 16, f"{value:.4g}", anchor="middle"))
        parts.append(_text((self.left + self.right) / 2, self.height - 6, x_name, anchor="middle"))
        middle = (self.top + self.bottom) / 2
        parts.append(_text(13, middle, y_name, anchor="middle", more=f'transform="rotate(-90 13 {middle:.1f})"'))
        return parts


def line_chart(lines: Mapping[str, Sequence[float]], *, title: str, x_name: str = "epoch", y_name: str = "") -> str:
    """Lines over 1, 2, 3, …; a value that is not finite leaves a gap."""
    values = [v for line in lines.values() for v in line if isfinite(v)]
    longest = max((len(line) for line in lines.values()), default=1)
    frame = _Frame((1, max(longest, 1)), (min(values, default=0.0), max(values, default=1.0)), height=250)
    frame.top = 30
    parts = frame.axes(x_name, y_name, counted=True)
    place = frame.left
    for (name, line), hue in zip(lines.items(), HUES * len(lines), strict=False):
        points = [(frame.x(i), frame.y(v)) if isfinite(v) else None for i, v in enumerate(line, start=1)]
        path, pen = "", "M"
        for point in points:
            path += f"{pen}{point[0]:.1f} {point[1]:.1f}" if point else ""
            pen = "L" if point else "M"
        parts.append(f'<path d="{path}" fill="none" style="stroke:{hue}" stroke-width="2" stroke-linejoin="round"/>')
        known = [point for point in points if point]
        for px, py in known if len(known) <= 20 else known[-1:]:
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" style="fill:{hue}"/>')
        parts.append(_rect(place, 9, 10, 10, hue, 'rx="2"'))
        parts.append(_text(place + 14, 18, name, colour="var(--ink)"))
        place += 26 + 7 * len(name)
    return _svg(W, frame.height, title, parts)


def xy_chart(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x_name: str,
    y_name: str,
    levels: Mapping[str, float] | None = None,
) -> str:
    """Lines through points, by name ``(x, y)``, and dashed horizontal ``levels`` to compare them with."""
    xs = [x for line in lines.values() for x in line[0]]
    ys = [y for line in lines.values() for y in line[1] if isfinite(y)]
    dashed = {name: value for name, value in (levels or {}).items() if isfinite(value)}
    ys += dashed.values()
    margin = 0.06 * ((max(ys) - min(ys)) or 1.0) if ys else 0.0
    span = (min(ys, default=0.0) - margin, max(ys, default=1.0) + margin)
    frame = _Frame((min(xs, default=0.0), max(xs, default=1.0)), span, height=250)
    frame.top = 30
    parts = frame.axes(x_name, y_name)
    place = frame.left
    for (name, line), hue in zip(lines.items(), HUES * len(lines), strict=False):
        points = [(frame.x(x), frame.y(y)) for x, y in zip(*line, strict=True) if isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" style="stroke:{hue}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" style="fill:{hue}"/>' for x, y in points]
        parts.append(_rect(place, 9, 10, 10, hue, 'rx="2"'))
        parts.append(_text(place + 14, 18, name, colour="var(--ink)"))
        place += 26 + 7 * len(name)
    for name, value in dashed.items():
        at = frame.y(value)
        parts.append(_line(frame.left, at, frame.right, at, "var(--soft)", 'stroke-width="1.5" stroke-dasharray="4 3"'))
        parts.append(_text(frame.right, at - 4, f"{_cut(name, 44)} {number(value)}", anchor="end"))
    return _svg(W, frame.height, title, parts)


def bar_chart(bars: Sequence[Bar], *, title: str, reference: Bar | None = None, signed: bool = False) -> str:
    """Horizontal bars from 0 with their intervals, and a dashed line to compare with; ``signed``: in two colours."""
    ends = [
        v for bar in (*bars, *([reference] if reference else [])) for v in (bar.value, bar.low, bar.high) if isfinite(v)
    ]
    low, high = min([0.0, *ends]), max([0.0, *ends]) or 1.0
    label = min(230.0, 12 + 7.8 * max((len(bar.name) for bar in bars), default=0))
    left, right, step = label, W - 58.0, 26.0
    top = 24.0 if reference else 6.0

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = []
    for i, bar in enumerate(bars):
        y = top + i * step
        parts.append(_text(label - 8, y + 14, _cut(bar.name, 29), anchor="end", colour="var(--ink)"))
        if not isfinite(bar.value):
            parts.append(_text(left, y + 14, "–"))
            continue
        start, end = sorted((place(0), place(bar.value)))
        hue = HUES[1] if signed and bar.value > 0 else HUES[0]  # as maps have it: orange for, blue against
        parts.append(_rect(start, y + 3, end - start, step - 10, hue, f'rx="2" opacity="{0.5 if bar.faint else 0.95}"'))
        if isfinite(bar.low) and isfinite(bar.high):
            y_mid = y + 3 + (step - 10) / 2
            parts.append(_line(place(bar.low), y_mid, place(bar.high), y_mid, "var(--ink)", 'stroke-width="1.5"'))
            for edge in (bar.low, bar.high):
                parts.append(_line(place(edge), y_mid - 4, place(edge), y_mid + 4, "var(--ink)", 'stroke-width="1.5"'))
        parts.append(_text(W - 4, y + 14, number(bar.value), anchor="end", colour="var(--ink)"))
    bottom = top + len(bars) * step
    if reference and isfinite(reference.value):
        at = place(reference.value)
        parts.append(_line(at, top - 4, at, bottom, "var(--second)", 'stroke-width="1.5" stroke-dasharray="4 3"'))
        anchor = "start" if at < W / 2 else "end"
        parts.append(_text(at, 14, f"{reference.name} {number(reference.value)}", anchor=anchor, colour="var(--second)"))
    return _svg(W, bottom + 6, title, parts)


def dotted(view: Curve, *, title: str) -> str:
    """The points of a curve, joined; beside what is ideal where that is known. Circles grow with what ``size`` names."""
    xs = [point[view.x] for point in view.points]
    ys = [point[view.y] for point in view.points]
    shares = all(0 <= value <= 1 for value in (*xs, *ys))
    spans = ((0.0, 1.0), (0.0, 1.0)) if shares or not xs else ((min(xs), max(xs)), (min(ys), max(ys)))
    frame = _Frame(*spans, height=300)
    parts = frame.axes(view.x, view.y)
    if view.ideal == "diagonal":
        ends = frame.x(frame.x_low), frame.y(frame.y_low), frame.x(frame.x_high), frame.y(frame.y_high)
        parts.append(_line(*ends, "var(--soft)", 'stroke-dasharray="4 3"'))
    sizes = [point[view.size] if view.size else 1.0 for point in view.points]
    most = max(sizes, default=1.0) or 1.0
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
    parts.append(f'<polyline points="{path}" fill="none" style="stroke:{HUES[0]}" stroke-width="1.5"/>')
    for x, y, size in zip(xs, ys, sizes, strict=True):
        said = f"{view.x} {x:.2f}, {view.y} {y:.2f}" + (f", {size:g} {view.size}" if view.size else "")
        place = f'cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{3 + 6 * (size / most) ** 0.5:.1f}"'
        parts.append(f'<circle {place} style="fill:{HUES[0]}" opacity="0.75"><title>{escape(said)}</title></circle>')
    return _svg(W, frame.height, title, parts)


def heat_map(labels: Sequence[str], counts: Sequence[Sequence[int]], *, title: str) -> str:
    """A confusion matrix: a row for each true class, shaded by its part of that row."""
    size = len(labels)
    left, top = min(130.0, 30 + 6.5 * max((len(name) for name in labels), default=0)), 28.0
    cell = min(64.0, (W - left - 8) / max(size, 1))
    slant = cell < 48
    head = 64.0 if slant else 20.0
    parts = [_text(left + size * cell / 2, 14, "predicted", anchor="middle")]
    middle = top + head + size * cell / 2
    parts.append(_text(12, middle, "true", anchor="middle", more=f'transform="rotate(-90 12 {middle:.1f})"'))
    for i, name in enumerate(labels):
        x = left + (i + 0.5) * cell
        turn = f'transform="rotate(-45 {x:.1f} {top + head - 6:.1f})"' if slant else ""
        short = _cut(name, 11 if slant else max(3, int(cell / 7)))
        parts.append(_text(x, top + head - 6, short, anchor="start" if slant else "middle", colour="var(--ink)", more=turn))
        y = top + head + (i + 0.5) * cell + 4
        parts.append(_text(left - 6, y, _cut(name, 15), anchor="end", colour="var(--ink)"))
    for i, row in enumerate(counts):
        total = max(1, sum(row))
        for j, count in enumerate(row):
            x, y, part = left + j * cell, top + head + i * cell, count / total
            hue = "var(--accent)" if i == j else "var(--second)"
            said = f"<title>{escape(labels[i])} taken for {escape(labels[j])}: {count} of {sum(row)}</title>"
            shape = _rect(x + 1, y + 1, cell - 2, cell - 2, hue, f'rx="3" fill-opacity="{0.06 + 0.84 * part:.2f}"')
            parts.append(f"<g>{said}{shape}</g>")
            if cell >= 22:
                colour = "var(--page)" if part > 0.55 else "var(--ink)"
                parts.append(_text(x + cell / 2, y + cell / 2 + 4, str(count), anchor="middle", colour=colour))
    return _svg(W, top + head + size * cell + 8, title, parts)


def shades(values: Sequence[Sequence[float]], labels: Sequence[str], *, title: str) -> str:
    """A matrix as shades, the darkest its largest value; ``labels`` name the rows where there are any."""
    high = max((v for row in values for v in row if isfinite(v)), default=1.0)
    low = min((v for row in values for v in row if isfinite(v)), default=0.0)
    left = 12 + 7.4 * max((len(_cut(name, 22)) for name in labels), default=0)
    wide = (W - left - 8) / max((len(row) for row in values), default=1)
    tall = 22.0 if labels else min(wide, 22.0)
    parts = [
        _text(left - 6, 8 + (i + 0.5) * tall + 4, _cut(name, 22), anchor="end", colour="var(--ink)")
        for i, name in enumerate(labels)
    ]
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if isfinite(value):
                shade = (value - min(low, 0.0)) / ((high - min(low, 0.0)) or 1.0)
                more = f'fill-opacity="{shade:.2f}"'
                parts.append(_rect(left + j * wide, 8 + i * tall, wide, tall, HUES[0], more))
    return _svg(W, 16 + tall * len(values), title, parts)


def scatter(predicted: Sequence[float], true: Sequence[float], *, title: str, most: int = 1000) -> str:
    """Predicted against true numbers, at most ``most`` of them; on the diagonal they agree."""
    step = max(1, ceil(len(true) / most))
    points = [(t, p) for t, p in zip(true[::step], predicted[::step], strict=True) if isfinite(t) and isfinite(p)]
    both = [v for point in points for v in point]
    span = (min(both, default=0.0), max(both, default=1.0))
    frame = _Frame(span, span, height=320)
    parts = frame.axes("true", "predicted")
    ends = (frame.x(frame.x_low), frame.y(frame.y_low), frame.x(frame.x_high), frame.y(frame.y_high))
    parts.append(_line(*ends, "var(--soft)", 'stroke-dasharray="4 3"'))
    fade = 0.75 if len(points) < 100 else 0.35
    dots = "".join(f'<circle cx="{frame.x(t):.1f}" cy="{frame.y(p):.1f}" r="3"/>' for t, p in points)
    parts.append(f'<g style="fill:{HUES[0]}" opacity="{fade}">{dots}</g>')
    return _svg(W, frame.height, title, parts)


def sparkline(values: Sequence[float], *, title: str) -> str:
    """A series in a cell, thinned to what can be seen."""
    kept = [v for v in values if isfinite(v)]
    kept = kept[:: max(1, ceil(len(kept) / 160))]
    low, high = min(kept, default=0.0), max(kept, default=1.0)
    span = (high - low) or 1.0
    gap = 156 / max(1, len(kept) - 1)
    path = " ".join(f"{2 + i * gap:.1f},{38 - (v - low) / span * 36:.1f}" for i, v in enumerate(kept))
    line = f'<polyline points="{path}" fill="none" style="stroke:{HUES[0]}" stroke-width="1.2"/>'
    return _svg(160, 40, title, [line])


def coloured_line(
    values: Sequence[float], heat: Sequence[float], *, title: str, top: float | None = None, label: str = ""
) -> str:
    """A series with what each stretch of it did behind it: orange spoke for the answer, blue against.

    Args:
        heat: One value a step, of any number of steps over the same length.
        top: The strongest value of all lines that are to be compared; None: of this one, in the stretches shown.
    """
    stretches = min(len(heat), 64)
    edges = [i * len(heat) // stretches for i in range(stretches + 1)]
    sums = [float(sum(heat[a:b])) for a, b in pairwise(edges)]
    most = top if top is not None else max((abs(v) for v in sums), default=0.0)
    high, left = 56.0, 18.0 if label else 2.0
    wide = (W - left - 2) / max(stretches, 1)
    parts = [_text(2, high / 2 + 4, label)] if label else []
    parts += [
        f'<rect x="{left + i * wide:.1f}" y="1" width="{wide + 0.3:.1f}" height="{high - 2:g}" fill="{rgba(v, most)}"/>'
        for i, v in enumerate(sums)
        if abs(v) > 0
    ]
    kept = [v if isfinite(v) else 0.0 for v in values]
    kept = kept[:: max(1, ceil(len(kept) / 400))]
    low, top_value = min(kept, default=0.0), max(kept, default=1.0)
    gap = (W - left - 2) / max(1, len(kept) - 1)
    span = (top_value - low) or 1.0
    path = " ".join(f"{left + i * gap:.1f},{high - 4 - (v - low) / span * (high - 8):.1f}" for i, v in enumerate(kept))
    parts.append(f'<polyline points="{path}" fill="none" style="stroke:var(--ink)" stroke-width="1.1"/>')
    return _svg(W, high, title, parts)


def dots(x: Sequence[float], y: Sequence[float], colours: Sequence[str], *, title: str, most: int = 600) -> str:
    """Points in their own colours over a faint grey, both axes at the same scale."""
    step = max(1, ceil(len(x) / most))
    low_x, low_y = min(x, default=0.0), min(y, default=0.0)
    size = max(max(x, default=1.0) - low_x, max(y, default=1.0) - low_y) or 1.0
    parts = []
    for a, b, colour in list(zip(x, y, colours, strict=True))[::step]:
        place = f'cx="{6 + (a - low_x) / size * 208:.1f}" cy="{214 - (b - low_y) / size * 208:.1f}" r="2.6"'
        parts.append(f'<circle {place} style="fill:var(--line)"/><circle {place} fill="{colour}"/>')
    return _svg(220, 220, title, parts)


def save_svg(chart: str, path: str | Path) -> Path:
    """Writes one chart as a picture that opens anywhere."""
    inside = f'<style>{STYLE}</style><rect width="100%" height="100%" style="fill:var(--page)"/>'
    whole = chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        "</title>", f"</title>{inside}", 1
    )
    out = Path(path)
    out.write_text(whole, encoding="utf-8")
    return out


def curves(history: Sequence[Mapping[str, float]]) -> dict[str, dict[str, list[float]]]:
    """Learning curves by chart: all losses in one, every other score in its own, training and validation together."""
    skip = ("epoch", "step", "lr", "seconds", "time", "learning_rate")
    names = [name for name in dict.fromkeys(key for epoch in history for key in epoch) if name not in skip]
    charts: dict[str, dict[str, list[float]]] = {}
    for name in names:
        values = [_number(epoch.get(name)) for epoch in history]
        if any(isfinite(value) for value in values):
            split, _, rest = name.replace("/", "_").partition("_")
            metric = rest if split in ("train", "training", "valid", "validation", "val", "test") else name
            chart = "loss" if metric == "loss" or metric.startswith("loss_") else metric
            charts.setdefault(chart.replace("_", " "), {})[name.replace("_", " ").replace("/", " ")] = values
    return charts


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def curves_svg(history: Sequence[Mapping[str, float]], path: str | Path) -> Path:
    """Writes the learning curves as one picture that opens anywhere.

    Args:
        history: One mapping of names to values for each epoch.
        path: The ``.svg`` file to write.
    """
    charts = curves(history) or {"nothing was recorded": {}}
    height = 280.0
    parts = [f'<style>{STYLE}</style><rect width="100%" height="100%" style="fill:var(--page)"/>']
    for i, (name, lines) in enumerate(charts.items()):
        inner = line_chart(lines, title=name, y_name=name)
        parts.append(f'<g transform="translate(0 {i * height + 12:g})">{inner.replace("<svg ", _SIZE, 1)}</g>')
    whole = _svg(W, height * len(charts), "learning curves", parts)
    out = Path(path)
    out.write_text(whole.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1), encoding="utf-8")
    return out


_SIZE = f'<svg width="{W}" height="250" '

"""Charts as inline SVG. Colours are CSS variables of the surrounding page, so they follow light and dark mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from math import ceil, isfinite
from pathlib import Path

from sensorium.core.report_views import Curve
from sensorium.evaluation.formatting import number
from sensorium.reporting.overlay import rgba
from sensorium.reporting.svg import HUES, STYLE, Frame, W, cut, drawing, legend, rect, rule, text


def xy_chart(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x_name: str,
    y_name: str,
    levels: Mapping[str, float] | None = None,
) -> str:
    """Render a line chart.

    Args:
        lines: By name, the ``(x, y)`` values.
        title: Accessible name of the chart.
        x_name: Label of the x axis.
        y_name: Label of the y axis.
        levels: Reference values by name, drawn as dashed horizontal lines.
    """
    xs = [x for line in lines.values() for x in line[0]]
    ys = [y for line in lines.values() for y in line[1] if isfinite(y)]
    dashed = {name: value for name, value in (levels or {}).items() if isfinite(value)}
    ys += dashed.values()
    margin = 0.06 * ((max(ys) - min(ys)) or 1.0) if ys else 0.0
    span = (min(ys, default=0.0) - margin, max(ys, default=1.0) + margin)
    key, head = legend(list(lines), 52.0)
    frame = Frame((min(xs, default=0.0), max(xs, default=1.0)), span, height=220 + head)
    frame.top = head
    parts = [*frame.axes(x_name, y_name), *key]
    for line, hue in zip(lines.values(), HUES * len(lines), strict=False):
        points = [(frame.x(x), frame.y(y)) for x, y in zip(*line, strict=True) if isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" style="stroke:{hue}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" style="fill:{hue}"/>' for x, y in points]
    for name, value in dashed.items():
        at = frame.y(value)
        parts.append(rule(frame.left, at, frame.right, at, "var(--soft)", 'stroke-width="1.5" stroke-dasharray="4 3"'))
        parts.append(text(frame.right, at - 4, f"{cut(name, 44)} {number(value)}", anchor="end"))
    return drawing(W, frame.height, title, parts)


def dotted(view: Curve, *, title: str) -> str:
    """Render a curve with markers.

    Args:
        view: The curve; marker sizes follow its ``size`` field, and the diagonal is drawn if it is the ideal.
        title: Accessible name of the chart.
    """
    xs = [point[view.x] for point in view.points]
    ys = [point[view.y] for point in view.points]
    shares = all(0 <= value <= 1 for value in (*xs, *ys))
    spans = ((0.0, 1.0), (0.0, 1.0)) if shares or not xs else ((min(xs), max(xs)), (min(ys), max(ys)))
    frame = Frame(*spans, height=300)
    parts = frame.axes(view.x, view.y)
    if view.ideal == "diagonal":
        ends = frame.x(frame.x_low), frame.y(frame.y_low), frame.x(frame.x_high), frame.y(frame.y_high)
        parts.append(rule(*ends, "var(--soft)", 'stroke-dasharray="4 3"'))
    sizes = [point[view.size] if view.size else 1.0 for point in view.points]
    most = max(sizes, default=1.0) or 1.0
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
    parts.append(f'<polyline points="{path}" fill="none" style="stroke:{HUES[0]}" stroke-width="1.5"/>')
    for x, y, size in zip(xs, ys, sizes, strict=True):
        tooltip = f"{view.x} {x:.2f}, {view.y} {y:.2f}" + (f", {size:g} {view.size}" if view.size else "")
        place = f'cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{3 + 6 * (size / most) ** 0.5:.1f}"'
        parts.append(f'<circle {place} style="fill:{HUES[0]}" opacity="0.75"><title>{escape(tooltip)}</title></circle>')
    return drawing(W, frame.height, title, parts)


def heat_map(labels: Sequence[str], counts: Sequence[Sequence[int]], *, title: str) -> str:
    """Render a confusion matrix, one row per true class, shaded by the share of the row.

    Args:
        labels: The classes.
        counts: Counts by true class (row) and predicted class (column).
        title: Accessible name of the chart.
    """
    size = len(labels)
    left, top = min(130.0, 30 + 6.5 * max((len(name) for name in labels), default=0)), 28.0
    cell = min(64.0, (W - left - 8) / max(size, 1))
    slant = cell < 48
    head = 64.0 if slant else 20.0
    parts = [text(left + size * cell / 2, 14, "predicted", anchor="middle")]
    middle = top + head + size * cell / 2
    parts.append(text(12, middle, "true", anchor="middle", more=f'transform="rotate(-90 12 {middle:.1f})"'))
    for i, name in enumerate(labels):
        x = left + (i + 0.5) * cell
        turn = f'transform="rotate(-45 {x:.1f} {top + head - 6:.1f})"' if slant else ""
        short = cut(name, 11 if slant else max(3, int(cell / 7)))
        parts.append(text(x, top + head - 6, short, anchor="start" if slant else "middle", colour="var(--ink)", more=turn))
        y = top + head + (i + 0.5) * cell + 4
        parts.append(text(left - 6, y, cut(name, 15), anchor="end", colour="var(--ink)"))
    for i, row in enumerate(counts):
        total = max(1, sum(row))
        for j, count in enumerate(row):
            x, y, part = left + j * cell, top + head + i * cell, count / total
            hue = "var(--accent)" if i == j else "var(--bad)"
            tooltip = f"<title>{escape(labels[i])} predicted as {escape(labels[j])}: {count} of {sum(row)}</title>"
            shape = rect(x + 1, y + 1, cell - 2, cell - 2, hue, f'rx="3" fill-opacity="{0.06 + 0.84 * part:.2f}"')
            parts.append(f"<g>{tooltip}{shape}</g>")
            if cell >= 22:
                colour = "var(--page)" if part > 0.55 else "var(--ink)"
                parts.append(text(x + cell / 2, y + cell / 2 + 4, str(count), anchor="middle", colour=colour))
    return drawing(W, top + head + size * cell + 8, title, parts)


def shades(values: Sequence[Sequence[float]], labels: Sequence[str], *, title: str) -> str:
    """Render the matrix ``values`` as shades, darkest for the largest value.

    Args:
        values: The rows of the matrix.
        labels: Names of the rows; may be empty.
        title: Accessible name of the chart.
    """
    high = max((v for row in values for v in row if isfinite(v)), default=1.0)
    low = min((v for row in values for v in row if isfinite(v)), default=0.0)
    left = 12 + 7.4 * max((len(cut(name, 22)) for name in labels), default=0)
    wide = (W - left - 8) / max((len(row) for row in values), default=1)
    tall = 22.0 if labels else min(wide, 22.0)
    parts = [
        text(left - 6, 8 + (i + 0.5) * tall + 4, cut(name, 22), anchor="end", colour="var(--ink)")
        for i, name in enumerate(labels)
    ]
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if isfinite(value):
                shade = (value - min(low, 0.0)) / ((high - min(low, 0.0)) or 1.0)
                more = f'fill-opacity="{shade:.2f}"'
                parts.append(rect(left + j * wide, 8 + i * tall, wide, tall, HUES[0], more))
    return drawing(W, 16 + tall * len(values), title, parts)


def scatter(predicted: Sequence[float], true: Sequence[float], *, title: str, most: int = 1000) -> str:
    """Render predicted against true numbers with the diagonal.

    Args:
        predicted: The predictions.
        true: The true values.
        title: Accessible name of the chart.
        most: Maximum number of points drawn.
    """
    step = max(1, ceil(len(true) / most))
    points = [(t, p) for t, p in zip(true[::step], predicted[::step], strict=True) if isfinite(t) and isfinite(p)]
    both = [v for point in points for v in point]
    span = (min(both, default=0.0), max(both, default=1.0))
    frame = Frame(span, span, height=320)
    parts = frame.axes("true", "predicted")
    ends = (frame.x(frame.x_low), frame.y(frame.y_low), frame.x(frame.x_high), frame.y(frame.y_high))
    parts.append(rule(*ends, "var(--soft)", 'stroke-dasharray="4 3"'))
    fade = 0.75 if len(points) < 100 else 0.35
    dots = "".join(f'<circle cx="{frame.x(t):.1f}" cy="{frame.y(p):.1f}" r="3"/>' for t, p in points)
    parts.append(f'<g style="fill:{HUES[0]}" opacity="{fade}">{dots}</g>')
    return drawing(W, frame.height, title, parts)


def sparkline(values: Sequence[float], *, title: str) -> str:
    """Render ``values`` as a small line plot named ``title``, subsampled to the visible resolution."""
    kept = [v for v in values if isfinite(v)]
    kept = kept[:: max(1, ceil(len(kept) / 160))]
    low, high = min(kept, default=0.0), max(kept, default=1.0)
    span = (high - low) or 1.0
    gap = 156 / max(1, len(kept) - 1)
    path = " ".join(f"{2 + i * gap:.1f},{38 - (v - low) / span * 36:.1f}" for i, v in enumerate(kept))
    line = f'<polyline points="{path}" fill="none" style="stroke:{HUES[0]}" stroke-width="1.2"/>'
    return drawing(160, 40, title, [line])


def coloured_line(
    values: Sequence[float], heat: Sequence[float], *, title: str, top: float | None = None, label: str = ""
) -> str:
    """Render a series over its attribution: orange supports the prediction, blue opposes it.

    Args:
        values: The series.
        heat: Attribution values over the same span; their number may differ from that of ``values``.
        title: Accessible name of the chart.
        top: The value with the darkest colour, to compare several lines; None for the maximum of this one.
        label: Text to the left of the line.
    """
    stretches = min(len(heat), 64)
    edges = [i * len(heat) // stretches for i in range(stretches + 1)]
    sums = [float(sum(heat[a:b])) for a, b in pairwise(edges)]
    most = top if top is not None else max((abs(v) for v in sums), default=0.0)
    high, left = 56.0, 18.0 if label else 2.0
    wide = (W - left - 2) / max(stretches, 1)
    parts = [text(2, high / 2 + 4, label)] if label else []
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
    return drawing(W, high, title, parts)


def dots(x: Sequence[float], y: Sequence[float], colours: Sequence[str], *, title: str, most: int = 600) -> str:
    """Render points with equal scales on both axes.

    Args:
        x: Horizontal coordinates.
        y: Vertical coordinates.
        colours: CSS colour of each point, drawn over light grey.
        title: Accessible name of the chart.
        most: Maximum number of points drawn.
    """
    step = max(1, ceil(len(x) / most))
    low_x, low_y = min(x, default=0.0), min(y, default=0.0)
    size = max(max(x, default=1.0) - low_x, max(y, default=1.0) - low_y) or 1.0
    parts = []
    for a, b, colour in list(zip(x, y, colours, strict=True))[::step]:
        place = f'cx="{6 + (a - low_x) / size * 208:.1f}" cy="{214 - (b - low_y) / size * 208:.1f}" r="2.6"'
        parts.append(f'<circle {place} style="fill:var(--line)"/><circle {place} fill="{colour}"/>')
    return drawing(220, 220, title, parts)


def save_svg(chart: str, path: str | Path) -> Path:
    """Write the SVG ``chart`` to ``path`` as a standalone file."""
    inside = f'<style>{STYLE}</style><rect width="100%" height="100%" style="fill:var(--page)"/>'
    document = chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        "</title>", f"</title>{inside}", 1
    )
    out = Path(path)
    out.write_text(document, encoding="utf-8")
    return out

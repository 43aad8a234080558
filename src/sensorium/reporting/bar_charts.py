"""Horizontal bar charts as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from sensorium.core.text_columns import width
from sensorium.evaluation.formatting import number
from sensorium.reporting.svg import HUES, PLACE, W, drawing, rect, rule, text, wrapped

LABEL = 190.0
"""Maximum width of labels in SVG units; longer ones are wrapped."""
STEP, LINE = 26.0, 15.0


class Bar(NamedTuple):
    """One bar of a chart.

    Args:
        name: Its label.
        value: Its length.
        low: Lower end of its interval; NaN for none.
        high: Upper end of its interval; NaN for none.
        faint: Whether to draw it pale.
        missing: Whether to write "missing" instead of a bar.
    """

    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    faint: bool = False
    missing: bool = False


def bar_chart(bars: Sequence[Bar], *, title: str, reference: Bar | None = None, signed: bool = False) -> str:
    """Render horizontal bars with their intervals as SVG.

    Args:
        bars: The bars, top to bottom.
        title: Accessible name of the chart.
        reference: A value to mark by a dashed line.
        signed: Whether to colour bars by sign (supports or opposes a prediction).
    """
    values = [v for bar in bars if not bar.missing for v in (bar.value, bar.low, bar.high)]
    ends = [v for v in (*values, *([reference.value] if reference else [])) if isfinite(v)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    high = high if high > low else low + 1.0
    names = [wrapped(bar.name, LABEL) for bar in bars]
    label = 12 + PLACE * max((width(part) for name in names for part in name), default=0)
    left, right = label, W - 58.0
    top = 24.0 if reference else 6.0

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts, y = [], top
    for bar, name in zip(bars, names, strict=True):
        step = max(STEP, LINE * len(name) + 8)
        middle = y + step / 2 - 2
        first = middle + 4 - LINE * (len(name) - 1) / 2
        ink = "var(--missing)" if bar.missing else "var(--ink)"
        parts += [text(label - 8, first + LINE * i, part, anchor="end", colour=ink) for i, part in enumerate(name)]
        y += step
        if bar.missing or not isfinite(bar.value):
            label_text = "missing" if bar.missing else "–"
            parts.append(text(place(0.0) + 4, middle + 4, label_text, colour="var(--missing)"))
            continue
        start, end = sorted((place(0), place(bar.value)))
        hue = ("var(--for)" if bar.value > 0 else "var(--against)") if signed else HUES[0]
        more = f'rx="2" opacity="{0.5 if bar.faint else 0.95}"'
        parts.append(rect(start, middle - 8, end - start, STEP - 10, hue, more))
        if isfinite(bar.low) and isfinite(bar.high):
            parts.append(rule(place(bar.low), middle, place(bar.high), middle, "var(--ink)", 'stroke-width="1.5"'))
            for edge in (bar.low, bar.high):
                parts.append(rule(place(edge), middle - 4, place(edge), middle + 4, "var(--ink)", 'stroke-width="1.5"'))
        parts.append(text(W - 4, middle + 4, number(bar.value), anchor="end", colour="var(--ink)"))
    if reference and isfinite(reference.value):
        at = place(reference.value)
        parts.append(rule(at, top - 4, at, y, "var(--second)", 'stroke-width="1.5" stroke-dasharray="4 3"'))
        anchor = "start" if at < W / 2 else "end"
        parts.append(text(at, 14, f"{reference.name} {number(reference.value)}", anchor=anchor, colour="var(--second)"))
    return drawing(W, y + 6, title, parts)

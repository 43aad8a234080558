"""SVG primitives of the charts: shapes, text, axes, legends, and the colour scheme of all pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import cycle
from math import ceil, floor, log10

from sensorium.core.text_columns import width
from sensorium.reporting.overlay import AGAINST, FOR

W = 440  # about the width of a phone, so that text is not scaled down there
HUES = ("var(--accent)", "var(--second)", "var(--third)", "var(--soft)")
PLACE = 8.2
"""Width of a character at the largest font size of charts; wide (CJK) characters take two."""
LINES = 6
STYLE = (
    ":root{--page:#fff;--card:#f6f7f9;--ink:#1d2430;--soft:#667085;--line:#d9dee7;--accent:#2563c9;--second:#c2570c;"
    f"--third:#0f8a6a;--good:#0f8a6a;--bad:#c0362c;--for:#{bytes(FOR).hex()};--against:#{bytes(AGAINST).hex()};--missing:#8a94a6}}"
    "@media(prefers-color-scheme:dark){:root{--page:#12161d;--card:#1a2029;--ink:#e6e9ef;--soft:#98a2b3;--line:#344054;"
    "--accent:#6ea8ff;--second:#f59e5b;--third:#4cc9a4;--good:#4cc9a4;--bad:#ff8a80;--for:#f59e5b;--against:#6ea8ff;"
    "--missing:#7d8798}}"
)
"""The colours of all pages. ``--for`` marks what supports a prediction, ``--against`` what opposes it: on pages, in images
(``overlay``) and on the server's page."""


def drawing(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """Return an SVG of ``width`` × ``height`` units made of ``parts``, with the accessible name ``title``."""
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}" class="chart"'
    return f'{head} font-family="system-ui,sans-serif" font-size="12"><title>{escape(title)}</title>{"".join(parts)}</svg>'


def text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "var(--soft)", more: str = "") -> str:
    """Return a ``text`` element at ``x``, ``y``.

    Args:
        x: Horizontal position.
        y: Baseline position.
        text: The text.
        anchor: ``start``, ``middle`` or ``end``.
        colour: CSS colour.
        more: Further attributes.
    """
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:{colour}" {more}>{escape(text)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, colour: str = "var(--line)", more: str = "") -> str:
    """Return a line from ``x1``, ``y1`` to ``x2``, ``y2`` in ``colour``, with further attributes in ``more``."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{colour}" {more}/>'


def rect(x: float, y: float, wide: float, high: float, colour: str, more: str = "") -> str:
    """Return a rectangle at ``x``, ``y`` of size ``wide`` × ``high`` in ``colour``, with further attributes in ``more``."""
    size = f'width="{max(0.0, wide):.1f}" height="{max(0.0, high):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} style="fill:{colour}" {more}/>'


def cut(text: str, length: int) -> str:
    """Truncate ``text`` to ``length`` characters, ending in an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about ``count`` round tick values from ``low`` to ``high``, 1, 2, 2.5 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    unit = 10.0 ** floor(log10(rough))
    step = next((unit * m for m in (1, 2, 2.5, 5) if unit * m >= rough), unit * 10)
    first = ceil(low / step - 1e-9)
    return [i * step for i in range(first, floor(high / step + 1e-9) + 1)]


class Frame:
    """The axes of a chart: maps values to positions.

    Args:
        x: Range of the x axis.
        y: Range of the y axis.
        height: Height in SVG units.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: float = 240) -> None:
        self.height, self.left, self.right, self.top, self.bottom = height, 52.0, W - 12.0, 12.0, height - 40.0
        self.x_low, self.x_high = x if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
        self.y_low, self.y_high = y if y[1] > y[0] else (y[0] - 0.5, y[0] + 0.5)

    def x(self, value: float) -> float:
        """Return the horizontal position of ``value``."""
        return self.left + (value - self.x_low) / (self.x_high - self.x_low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Return the vertical position of ``value``."""
        return self.bottom - (value - self.y_low) / (self.y_high - self.y_low) * (self.bottom - self.top)

    def axes(self, x_name: str, y_name: str, *, counted: bool = False) -> list[str]:
        """Return grid lines, tick labels and axis labels.

        Args:
            x_name: Label of the x axis.
            y_name: Label of the y axis.
            counted: Whether the x axis has integer ticks only.
        """
        parts = []
        for value in ticks(self.y_low, self.y_high):
            parts += [rule(self.left, self.y(value), self.right, self.y(value))]
            parts += [text(self.left - 6, self.y(value) + 4, f"{value:.4g}", anchor="end")]
        for value in ticks(self.x_low, self.x_high):
            if counted and value != round(value):
                continue
            parts.append(text(self.x(value), self.bottom + 16, f"{value:.4g}", anchor="middle"))
        parts.append(text((self.left + self.right) / 2, self.height - 6, x_name, anchor="middle"))
        middle = (self.top + self.bottom) / 2
        parts.append(text(13, middle, y_name, anchor="middle", more=f'transform="rotate(-90 13 {middle:.1f})"'))
        return parts


def wrapped(name: str, most: float) -> list[str]:
    """Wrap ``name`` to lines of at most ``most`` units, after a space or ``+`` where possible."""
    room = max(4, int(most / PLACE))
    lines = [""]
    for piece in name.replace("+", "+\0").replace(" ", " \0").split("\0"):
        while piece and len(lines) <= LINES + 1:  # of very long names only the beginning is used
            if width(lines[-1] + piece.rstrip()) <= room:
                lines[-1] += piece
                break
            if lines[-1]:
                lines.append("")
                continue
            fits = next(i for i in range(min(len(piece), room), 0, -1) if i == 1 or width(piece[:i]) <= room)
            lines[-1], piece = piece[:fits], piece[fits:]
            if piece:
                lines.append("")
    shown = [line.rstrip() for line in lines if line.strip()] or [""]
    return shown if len(shown) <= LINES else [*shown[: LINES - 1], shown[LINES - 1] + "…"]


def legend(names: Sequence[str], left: float, hues: Sequence[str] = HUES) -> tuple[list[str], float]:
    """Return the elements of a legend and its height.

    Args:
        names: The names of the lines.
        left: Horizontal position.
        hues: Colours, reused dashed after the last.
    """
    parts, place, row = [], left, 0
    for i, (name, hue) in enumerate(zip(names, cycle(hues), strict=False)):
        shown = cut(name, int((W - left - 20) / PLACE))
        wide = 26 + PLACE * width(shown)
        if place > left and place + wide > W:
            place, row = left, row + 1
        dashed = i >= len(hues)
        mark = 'stroke-width="3"' + (' stroke-dasharray="3 2"' if dashed else "")
        parts.append(rule(place, 14 + 18 * row, place + 11, 14 + 18 * row, hue, mark))
        parts.append(text(place + 15, 18 + 18 * row, shown, colour="var(--ink)"))
        place += wide
    return parts, 12.0 + 18 * (row + 1)

"""Answers that are spans along an input, in words and as a strip."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from sensorium.reporting.svg import HUES, W, drawing, rect, text

LISTED = 8
HIGH = 18


def spans_of(value: Any) -> list[tuple[float, float, str]]:
    """Return the spans ``[start, end, label]`` of the answer ``value``; empty if it has none."""
    if not isinstance(value, list):
        return []
    spans = []
    for part in value:
        if not isinstance(part, list) or len(part) != 3 or not isinstance(part[2], str):
            return []
        if not all(isinstance(end, (int, float)) and math.isfinite(end) for end in part[:2]):
            return []
        spans.append((float(part[0]), float(part[1]), part[2]))
    return spans


def in_words(spans: list[tuple[float, float, str]]) -> str:
    """Return the first ``spans`` as text: ``walk from 0 to 1.5``."""
    shown = ", ".join(f"{label} from {start:g} to {end:g}" for start, end, label in spans[:LISTED])
    return shown + (f" and {len(spans) - LISTED} more" if len(spans) > LISTED else "")


def strip(spans: list[tuple[float, float, str]], title: str) -> str:
    """Return an SVG strip of ``spans``, each label in a colour of its own, with a legend; ``title`` is its name."""
    if not spans:
        return ""
    end = max(stop for _, stop, _ in spans) or 1.0
    names = list(dict.fromkeys(label for *_, label in spans))
    hue = {name: f"color-mix(in srgb,{HUES[i % 3]} {90 - 25 * (i // 3 % 3)}%,var(--card))" for i, name in enumerate(names)}
    parts = [rect(0, 2, W, HIGH, "var(--line)")]
    for start, stop, label in spans:
        words = f"<title>{escape(label)}: {start:g} to {stop:g}</title>"
        box = rect(W * start / end, 2, W * (stop - start) / end, HIGH, hue[label])
        parts.append(box.replace("/>", f">{words}</rect>"))
    parts += [text(0, HIGH + 16, "0"), text(W, HIGH + 16, f"{end:g}", anchor="end")]
    for i, name in enumerate(names[:LISTED]):
        x, y = (i % 4) * W / 4, HIGH + 26 + 16 * (i // 4)
        parts += [rect(x, y, 10, 10, hue[name]), text(x + 14, y + 9, name[:14])]
    return drawing(W, HIGH + 40 + 16 * ((min(len(names), LISTED) - 1) // 4), title, parts)

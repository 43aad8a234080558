"""Parser of durations as people and programs write them."""

from __future__ import annotations

import math
import re
from datetime import time, timedelta
from typing import Any, Literal

Clock = Literal["hm", "ms"]
"""The meaning of 1:30: hours and minutes, or minutes and seconds."""

_SECONDS = {
    "ms": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hr": 3600.0,
    "hour": 3600.0, "d": 86_400.0, "day": 86_400.0, "w": 604_800.0, "wk": 604_800.0, "week": 604_800.0,
}  # fmt: skip
_UNIT = "|".join(sorted((f"{name}s?" if len(name) > 1 else name for name in _SECONDS), key=len, reverse=True))
_PART = rf"[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?\s*(?:{_UNIT})"
_PARTS = re.compile(rf"(?P<sign>-?)(?P<parts>{_PART}(?:\s*,?\s*(?:and\s+)?{_PART}){{0,5}})", re.IGNORECASE | re.ASCII)
_ONE = re.compile(rf"([0-9]+(?:\.[0-9]+)?)\s*({_UNIT})", re.IGNORECASE | re.ASCII)
_CLOCK = re.compile(
    r"(?P<sign>-?)(?:(?P<days>[0-9]{1,6}) days?,? +)?"
    r"(?P<a>[0-9]{1,4}):(?P<b>[0-5][0-9])(?::(?P<c>[0-5][0-9](?:\.[0-9]{1,9})?))?"
    r"|(?P<minus>-[0-9]{1,6}) days? \+(?P<h>[0-9]{1,2}):(?P<m>[0-5][0-9]):(?P<s>[0-5][0-9](?:\.[0-9]{1,9})?)",
    re.ASCII,
)
_N = r"[0-9]{1,9}(?:[.,][0-9]{1,9})?"
_ISO = re.compile(
    rf"(?P<sign>-?)P(?=[0-9T])(?:(?P<w>{_N})W)?(?:(?P<d>{_N})D)?(?:T(?=[0-9])(?:(?P<h>{_N})H)?(?:(?P<m>{_N})M)?(?:(?P<s>{_N})S)?)?",
    re.ASCII,
)


def is_time_unit(unit: str) -> bool:
    """Return whether ``unit`` is a unit of time: ``h`` or ``minutes``."""
    return _singular(unit) in _SECONDS


def read_duration(cell: Any, clock: Clock = "hm") -> float | None:
    """Return the duration ``cell`` in seconds; None if it is not a duration, or a number without a unit.

    Formats are ``1:23:45``, ``3h 20m``, ``P1DT2H``, ``2 days 03:00:00``, time deltas of Python, numpy and pandas, and
    times of day, which count from midnight. ``clock`` is the meaning of 1:30.
    """
    if isinstance(cell, str):
        return _text(cell.strip(), clock) if len(cell) <= 80 else None
    if isinstance(cell, time):
        return cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond / 1e6
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    if type(cell).__name__ == "timedelta64":
        try:
            seconds = float(cell / cell.dtype.type(1, "s"))
        except (TypeError, ValueError):
            return None  # months and years have no fixed length
        return seconds if math.isfinite(seconds) else None
    return None


def is_duration(cell: Any) -> bool:
    """Return whether ``cell`` is a duration, not just a number with a unit like ``3 h``."""
    if isinstance(cell, str):
        text = cell.strip()
        if len(text) > 80:
            return False
        parts = _PARTS.fullmatch(text)
        return len(_ONE.findall(text)) > 1 if parts else read_duration(text) is not None
    return read_duration(cell) is not None


def is_minutes_and_seconds(cells: list[str]) -> bool:
    """Return whether 1:30 means minutes and seconds: ``cells`` also have 1:02:03, or values too large for hours."""
    matches = [
        match
        for match in map(_CLOCK.fullmatch, (cell.strip() for cell in cells if len(cell) <= 80))
        if match and match["a"]
    ]
    short = [match for match in matches if match["c"] is None]
    return bool(short) and (len(short) < len(matches) or any(int(match["a"]) > 24 for match in short))


def _text(text: str, clock: Clock) -> float | None:
    match = _CLOCK.fullmatch(text)
    if match and match["minus"]:
        return int(match["minus"]) * 86_400 + int(match["h"]) * 3600 + int(match["m"]) * 60 + float(match["s"])
    if match:
        a, b = int(match["a"]), int(match["b"])
        if match["c"] is None and clock == "ms" and not match["days"]:
            seconds = 60.0 * a + b
        else:
            seconds = 86_400.0 * int(match["days"] or 0) + 3600 * a + 60 * b + float(match["c"] or 0)
        return -seconds if match["sign"] else seconds
    match = _ISO.fullmatch(text)
    if match:
        sizes = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
        seconds = sum(float((match[name] or "0").replace(",", ".")) * size for name, size in sizes.items())
        return -seconds if match["sign"] else seconds
    match = _PARTS.fullmatch(text)
    if match is None:
        return None
    seconds = sum(float(value) * _SECONDS[_singular(unit)] for value, unit in _ONE.findall(match["parts"]))
    return -seconds if match["sign"] else seconds


def _singular(unit: str) -> str:
    unit = unit.lower()
    return unit if unit in _SECONDS else unit.removesuffix("s")

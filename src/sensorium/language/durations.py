"""Lengths of time as people and programs write them."""

from __future__ import annotations

import math
import re
from datetime import time, timedelta
from typing import Any, Literal

Clock = Literal["hm", "ms"]
"""What 1:30 means: hours and minutes, or minutes and seconds."""

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


def time_units(unit: str) -> bool:
    """Whether a unit is one of time, such as ``h`` or ``minutes``."""
    return _singular(unit) in _SECONDS


def read_span(cell: Any, clock: Clock = "hm") -> float | None:
    """The seconds that a cell stands for; None where it is no length of time, or a bare number.

    ``1:23:45``, ``3h 20m``, ``P1DT2H``, ``2 days 03:00:00``, Python's, numpy's and pandas' time deltas, and a time of day,
    which counts from midnight.
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
            return None  # months and years have no length
        return seconds if math.isfinite(seconds) else None
    return None


def spelt_out(cell: Any) -> bool:
    """Whether a cell is a length of time by itself, and not merely a number with a unit, as ``3 h``."""
    if isinstance(cell, str):
        text = cell.strip()
        if len(text) > 80:
            return False
        parts = _PARTS.fullmatch(text)
        return len(_ONE.findall(text)) > 1 if parts else read_span(text) is not None
    return read_span(cell) is not None


def minutes_first(cells: list[str]) -> bool:
    """Whether 1:30 in a column is minutes and seconds: beside it stand 1:02:03, or numbers that are no hours."""
    found = [
        match
        for match in map(_CLOCK.fullmatch, (cell.strip() for cell in cells if len(cell) <= 80))
        if match and match["a"]
    ]
    short = [match for match in found if match["c"] is None]
    return bool(short) and (len(short) < len(found) or any(int(match["a"]) > 24 for match in short))


def _text(text: str, clock: Clock) -> float | None:
    found = _CLOCK.fullmatch(text)
    if found and found["minus"]:
        return int(found["minus"]) * 86_400 + int(found["h"]) * 3600 + int(found["m"]) * 60 + float(found["s"])
    if found:
        a, b = int(found["a"]), int(found["b"])
        if found["c"] is None and clock == "ms" and not found["days"]:
            seconds = 60.0 * a + b
        else:
            seconds = 86_400.0 * int(found["days"] or 0) + 3600 * a + 60 * b + float(found["c"] or 0)
        return -seconds if found["sign"] else seconds
    found = _ISO.fullmatch(text)
    if found:
        sizes = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
        seconds = sum(float((found[name] or "0").replace(",", ".")) * size for name, size in sizes.items())
        return -seconds if found["sign"] else seconds
    found = _PARTS.fullmatch(text)
    if found is None:
        return None
    seconds = sum(float(value) * _SECONDS[_singular(unit)] for value, unit in _ONE.findall(found["parts"]))
    return -seconds if found["sign"] else seconds


def _singular(unit: str) -> str:
    unit = unit.lower()
    return unit if unit in _SECONDS else unit.removesuffix("s")

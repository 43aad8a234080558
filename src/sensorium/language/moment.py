"""Dates and times as people and programs write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

Order = Literal["dmy", "mdy"]

_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.[0-9]+)?)?"
_TIME = rf"(?:[T ,]\s*{_CLOCK}\s*(?P<half>[ap]\.?m\.?)?)?"
_MONTH = r"(?P<name>[a-z]{3,9})\.?"
_DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[0-9]{4})"


def _form(date_part: str) -> re.Pattern[str]:
    return re.compile(rf"(?:[a-z]{{3,9}},?\s+)?{date_part}{_TIME}", re.IGNORECASE | re.ASCII)


_FORMS = (
    _form(rf"{_YEAR}(?P<mark>[-/.])(?P<month>[0-9]{{1,2}})(?P=mark)(?P<day>[0-9]{{1,2}})"),
    _form(rf"{_DAY}[ -]{_MONTH}[ ,-]\s*{_YEAR}"),
    _form(rf"{_MONTH}[ -]{_DAY},?[ -]\s*{_YEAR}"),
    _form(r"(?P<year>[0-9]{4})年(?P<month>[0-9]{1,2})月(?P<day>[0-9]{1,2})日"),
)
_TURNABLE = _form(r"(?P<a>[0-9]{1,2})(?P<mark>[-/.])(?P<b>[0-9]{1,2})(?P=mark)(?P<year>[0-9]{4}|[0-9]{2})")
_DIGITS = re.compile(r"[0-9]{9,13}(\.[0-9]+)?")
_EPOCH = datetime(1970, 1, 1)


def read_moment(cell: Any, order: Order = "dmy") -> tuple[datetime, float] | None:
    """The clock a cell shows, and its seconds since 1970 (UTC where a zone is given); None where it is no date.

    Python, pandas and numpy dates; seconds or milliseconds since 1970; ISO 8601, ``31/12/1999 23:59``, ``2 Jan 2020``,
    ``January 2, 2020``, ``2020年1月2日``. ``order`` says what 3/4/2020 means. Two-digit years are 1970 to 2069.
    """
    if isinstance(cell, str):
        shown = _text(cell.strip(), order) if len(cell) <= 80 else None
    else:
        shown = _object(cell)
    if shown is None:
        return None
    clock = shown.replace(tzinfo=None)
    try:
        known = shown.astimezone(UTC).replace(tzinfo=None) if shown.tzinfo else clock
    except OverflowError:
        known = clock
    return clock, (known - _EPOCH).total_seconds()


def order_of(cells: Iterable[Any]) -> Order:
    """Whether days or months come first in a column of dates such as 3/4/2020, by the numbers above 12 in it.

    Days where nothing decides: most of the world writes them first.
    """
    days_first = months_first = 0
    for cell in cells:
        found = _TURNABLE.fullmatch(cell.strip()) if isinstance(cell, str) and len(cell) <= 80 else None
        if found:
            days_first += int(found["a"]) > 12
            months_first += int(found["b"]) > 12
    return "mdy" if months_first > days_first else "dmy"


def _object(cell: Any) -> datetime | None:
    if isinstance(cell, datetime):
        return cell  # pandas' Timestamp is one too
    if isinstance(cell, date):
        return datetime.combine(cell, time())
    if type(cell).__name__ == "datetime64":
        cell = cell.astype("datetime64[us]").item()
        return cell if isinstance(cell, datetime) else None
    if isinstance(cell, bool) or hasattr(cell, "__len__") or isinstance(cell, complex):
        return None
    try:
        return _epoch(float(cell))
    except (TypeError, ValueError, OverflowError):
        return None


def _epoch(number: float) -> datetime | None:
    # Seconds from 1973 to 2286; a thousand times as many are milliseconds.
    if 1e8 <= number < 1e10:
        return _EPOCH + timedelta(seconds=number)
    if 1e11 <= number < 1e13:
        return _EPOCH + timedelta(milliseconds=number)
    return None


def _text(text: str, order: Order) -> datetime | None:
    if _DIGITS.fullmatch(text):
        return _epoch(float(text))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass  # not ISO: one of the other forms
    found = _TURNABLE.fullmatch(text)
    if found:
        day, month = (found["a"], found["b"]) if order == "dmy" or found["mark"] == "." else (found["b"], found["a"])
        year = int(found["year"])
        year += 0 if len(found["year"]) == 4 else 2000 if year < 70 else 1900
        return _made(found, year, int(month), int(day))
    for form in _FORMS:
        found = form.fullmatch(text)
        if found is None:
            continue
        parts = found.groupdict()
        name = (parts.get("name") or "")[:3].lower()
        if name and name not in _NAMES:
            return None
        month = parts["month"] if not name else str(_NAMES.index(name) + 1)
        return _made(found, int(parts["year"]), int(month), int(parts["day"]))
    return None


def _made(found: re.Match[str], year: int, month: int, day: int) -> datetime | None:
    hour = int(found["hour"] or 0)
    half = (found["half"] or "")[:1].lower()
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    try:
        return datetime(year, month, day, hour, int(found["minute"] or 0), int(found["second"] or 0))
    except ValueError:
        return None

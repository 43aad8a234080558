"""Parser of dates and times as people and programs write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, NamedTuple

from sensorium.core.scalars import plain
from sensorium.language.time_zones import PATTERN, zoned

Order = Literal["dmy", "mdy"]

_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.[0-9]+)?)?"
_TIME = rf"(?:[T ,:]\s*{_CLOCK}\s*(?P<half>[ap]\.?m\.?)?(?:\s*{PATTERN})?)?"
_MONTH = r"(?P<name>[a-z]{3,9})\.?"
_DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[0-9]{4})"


def _form(date_part: str) -> re.Pattern[str]:
    return re.compile(rf"(?:[a-z]{{3,9}},?\s+)?{date_part}{_TIME}", re.IGNORECASE | re.ASCII)


_FORMS = (
    _form(rf"{_YEAR}(?P<mark>[-/.])(?P<month>[0-9]{{1,2}})(?P=mark)(?P<day>[0-9]{{1,2}})"),
    _form(rf"{_DAY}[ /-]{_MONTH}[ ,/-]\s*{_YEAR}"),  # also in logs (10/Oct/2000:13:55:36 -0700) and e-mail (RFC 2822)
    _form(rf"{_MONTH}[ -]{_DAY},?[ -]\s*{_YEAR}"),
    # Wed Oct 10 20:19:24 +0000 2018, and without a zone, as by asctime of C
    re.compile(
        rf"[a-z]{{3}}\s+{_MONTH}\s+{_DAY}\s+{_CLOCK}(?P<half>)\s+(?:{PATTERN}\s+)?{_YEAR}", re.IGNORECASE | re.ASCII
    ),
    _form(r"(?P<year>[0-9]{4})-(?P<month>0[1-9]|1[0-2])(?P<day>)"),  # a month becomes its first day
    _form(rf"{_MONTH}[ -]{_YEAR}(?P<day>)"),
    _form(rf"(?P<month>0?[1-9]|1[0-2])/{_YEAR}(?P<day>)"),
    _form(r"(?P<year>[0-9]{4})年(?P<month>[0-9]{1,2})月(?P<day>[0-9]{1,2})日"),
)
_AMBIGUOUS = _form(r"(?P<a>[0-9]{1,2})(?P<mark>[-/.])(?P<b>[0-9]{1,2})(?P=mark)(?P<year>[0-9]{4}|[0-9]{2})")
_COMPACT = re.compile(r"(19|20)[0-9]{6}(\.0)?")
_NUMBER = re.compile(r"[0-9]{8,19}(\.[0-9]+)?")
_REGION = re.compile(r"\[[A-Za-z_/+-]{1,40}\]$")  # Java writes 2020-01-31T10:00+01:00[Europe/Berlin]
_EPOCH = datetime(1970, 1, 1)


def read_datetime(cell: Any, order: Order = "dmy") -> tuple[datetime, float] | None:
    """Return the local time of ``cell`` and its seconds since 1970 (in UTC if it has a zone); None if it is not a date.

    Formats are dates of Python, pandas and numpy; seconds, milli-, micro- or nanoseconds since 1970; 20200131 (text or
    number) and 20200131235959; ISO 8601, ``31/12/1999 23:59``, ``2 Jan 2020``, ``January 2, 2020``, ``2020年1月2日``,
    ``Jan 2020``, ``2020-01``; those of e-mail and logs (``Fri, 31 Jan 2020 10:00:00 GMT``, ``31/Jan/2020:10:00:00 -0700``,
    ``Fri Jan 31 10:00:00 +0000 2020``). ``order`` is the meaning of 3/4/2020. Two-digit years are 1970 to 2069. Unknown
    zones are ignored.
    """
    cell = plain(cell)
    if isinstance(cell, str):
        shown = _text(cell.strip(), order) if len(cell) <= 80 else None
    else:
        shown = _object(cell)
    if shown is None:
        return None
    clock = shown.replace(tzinfo=None)
    try:
        known = shown.astimezone(UTC).replace(tzinfo=None) if shown.tzinfo else clock
    except (OverflowError, ValueError):
        known = clock
    return clock, (known - _EPOCH).total_seconds()


class DayMonthOrder(NamedTuple):
    """Counts of cells that support each order of day and month.

    Args:
        days: Cells with the day first: 25/12/2020.
        months: Cells with the month first: 12/25/2020.
        either: Ambiguous cells: 3/4/2020.
        example: The first cell that supports the more frequent order.
    """

    days: int
    months: int
    either: int
    example: str

    @property
    def order(self) -> Order:
        """The more frequent order; day first by default, as in most of the world."""
        return "mdy" if self.months > self.days else "dmy"


def day_month_order(cells: Iterable[Any]) -> DayMonthOrder:
    """Detect whether the day or the month comes first in ``cells`` like 3/4/2020, by numbers above 12."""
    days = months = either = 0
    examples = {"dmy": "", "mdy": ""}
    for cell in cells:
        match = _AMBIGUOUS.fullmatch(cell.strip()) if isinstance(cell, str) and len(cell) <= 80 else None
        if match is None or match["mark"] == "." or max(int(match["a"]), int(match["b"])) > 31:
            continue
        if int(match["a"]) > 12:
            days += 1
            examples["dmy"] = examples["dmy"] or cell.strip()
        elif int(match["b"]) > 12:
            months += 1
            examples["mdy"] = examples["mdy"] or cell.strip()
        else:
            either += match["a"] != match["b"]
    return DayMonthOrder(days, months, either, examples["mdy" if months > days else "dmy"])


def is_compact_date(cell: Any) -> bool:
    """Return whether ``cell`` is a date of eight digits, 20200131, as text or number."""
    cell = plain(cell)
    if isinstance(cell, str):
        return _COMPACT.fullmatch(cell.strip()) is not None and _text(cell.strip(), "dmy") is not None
    if isinstance(cell, bool) or not isinstance(cell, (int, float)):
        return False
    return 19_000_101 <= cell <= 21_001_231 and _object(cell) is not None


def _object(cell: Any) -> datetime | None:
    if isinstance(cell, datetime):
        return cell  # includes Timestamp of pandas
    if isinstance(cell, date):
        return datetime.combine(cell, time())
    if type(cell).__name__ == "datetime64":
        cell = cell.astype("datetime64[us]").item()
        return cell if isinstance(cell, datetime) else None
    if hasattr(cell, "to_timestamp"):
        try:
            return _object(cell.to_timestamp())  # a Period of pandas
        except (TypeError, ValueError, OverflowError):
            return None
    if isinstance(cell, bool) or hasattr(cell, "__len__") or isinstance(cell, complex):
        return None
    try:
        return _number(float(cell))
    except (TypeError, ValueError, OverflowError):
        return None


def _number(number: float) -> datetime | None:
    # Dates from 1900 to 2100 as eight digits; seconds from 1973 to 2286, or smaller units of the same range.
    if 19_000_101 <= number <= 21_001_231:
        return _digits(f"{number:.0f}") if number.is_integer() else None
    if 19_000_101_000_000 <= number <= 21_001_231_235_959:
        return _digits(f"{number:.0f}") if number.is_integer() else None
    for unit, least, most in ((1, 1e8, 1e10), (1e3, 1e11, 1e13), (1e6, 1e14, 1e16), (1e9, 1e17, 1e19)):
        if least <= number < most:
            return _EPOCH + timedelta(seconds=number / unit)
    return None


def _digits(digits: str) -> datetime | None:
    try:
        return datetime.strptime(digits, "%Y%m%d" if len(digits) == 8 else "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _text(text: str, order: Order) -> datetime | None:
    if _NUMBER.fullmatch(text):
        return _number(float(text))
    text = _REGION.sub("", text)
    try:
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        pass  # not ISO: try the other formats
    match = _AMBIGUOUS.fullmatch(text)
    if match:
        day, month = (match["a"], match["b"]) if order == "dmy" or match["mark"] == "." else (match["b"], match["a"])
        year = int(match["year"])
        year += 0 if len(match["year"]) == 4 else 2000 if year < 70 else 1900
        return _datetime(match, year, int(month), int(day))
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is None:
            continue
        parts = match.groupdict()
        name = (parts.get("name") or "")[:3].lower()
        if name and name not in _NAMES:
            return None
        month = parts["month"] if not name else str(_NAMES.index(name) + 1)
        return _datetime(match, int(parts["year"]), int(month), int(parts["day"] or 1))
    return None


def _datetime(match: re.Match[str], year: int, month: int, day: int) -> datetime | None:
    hour = int(match["hour"] or 0)
    half = (match["half"] or "")[:1].lower()
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    try:
        clock = datetime(year, month, day, hour, int(match["minute"] or 0), int(match["second"] or 0))
        return zoned(clock, match["zone"])
    except ValueError:
        return None

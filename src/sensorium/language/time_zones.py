"""Parser of time zones after a time: ``Z``, ``+02:00``, ``EST``, ``Europe/Berlin``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_tz
from zoneinfo import ZoneInfo

PATTERN = (
    r"(?P<zone>Z|(?:UTC|GMT)?[+-][0-9]{1,2}:?[0-9]{2}|(?:UTC|GMT)[+-][0-9]{1,2}"
    r"|[A-Za-z]{2,5}|[A-Z][A-Za-z_]+/[A-Za-z_/+-]{2,40})"
)
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])([0-9]{1,2}):?([0-9]{2})?")
_HOURS = {
    "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9,
    "KST": 9, "HKT": 8, "SGT": 8, "AWST": 8, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13, "AKST": -9, "AKDT": -8,
    "HST": -10,
}  # fmt: skip
"""Hours from UTC of names unknown to the e-mail standard. IST is omitted, since three countries use it differently."""


def zone(name: str) -> tzinfo | None:
    """Return the time zone of ``name``, which may be an offset; None if it is unknown."""
    offset_match = _OFFSET.fullmatch(name)
    if offset_match:
        offset = timedelta(hours=int(offset_match[2]), minutes=int(offset_match[3] or 0))
        return timezone(-offset if offset_match[1] == "-" else offset) if offset < timedelta(days=1) else None
    if "/" in name:
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            return None
    if name.upper() in _HOURS:
        return timezone(timedelta(hours=_HOURS[name.upper()]))
    # EST and similar names are part of the e-mail standard: the standard library knows them.
    parsed = parsedate_tz(f"1 Jan 2000 00:00:00 {name.upper()}")
    known = name.upper() in ("Z", "UTC", "UT", "GMT") or (parsed is not None and parsed[9])
    return timezone(timedelta(seconds=(parsed[9] or 0) if parsed else 0)) if known else None


def zoned(clock: datetime, name: str | None) -> datetime:
    """Return ``clock`` with the time zone ``name``, or unchanged if the zone is unknown."""
    known = None if not name else zone(name)
    return clock if known is None else clock.replace(tzinfo=known)

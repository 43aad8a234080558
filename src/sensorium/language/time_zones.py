"""Time zones as they stand behind a time: ``Z``, ``+02:00``, ``EST``, ``Europe/Berlin``."""

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
"""Hours from UTC of names that e-mail does not know. IST, which three countries mean, is left out."""


def zone(name: str) -> tzinfo | None:
    """The zone of a name or an offset; None where it is not known (the clock is then all there is)."""
    found = _OFFSET.fullmatch(name)
    if found:
        offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
        return timezone(-offset if found[1] == "-" else offset) if offset < timedelta(days=1) else None
    if "/" in name:
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            return None
    if name.upper() in _HOURS:
        return timezone(timedelta(hours=_HOURS[name.upper()]))
    # EST and its kin have stood in e-mail for fifty years: the standard library knows them.
    read = parsedate_tz(f"1 Jan 2000 00:00:00 {name.upper()}")
    known = name.upper() in ("Z", "UTC", "UT", "GMT") or (read is not None and read[9])
    return timezone(timedelta(seconds=(read[9] or 0) if read else 0)) if known else None


def zoned(clock: datetime, name: str | None) -> datetime:
    """A clock with the zone of that name, where it is known."""
    known = None if not name else zone(name)
    return clock if known is None else clock.replace(tzinfo=known)

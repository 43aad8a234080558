"""Parsing of lists of numbers in text, as programs print them."""

from __future__ import annotations

import re

_SIGNS = frozenset("0123456789+-.eE, \t\r\n")
_FIRST = frozenset("0123456789+-.[")
_COMMA = re.compile(r"\s*,\s*")
_LONGEST = 2**22
INTEGERS = 8
"""Minimum count of integers without brackets that are a list; fewer may be a phone number, or 1 234 567."""


def read_number_list(text: str) -> list[float] | None:
    """The numbers in ``text`` such as ``0.1 0.2 0.3``, ``0.1, 0.2, 0.3`` or ``[0.1 0.2 0.3]`` (as numpy prints); None if
    it is no list.

    With brackets two numbers make a list. Without, it takes three with a decimal point, if they are at least half of all,
    or ``INTEGERS`` numbers of any kind.
    """
    text = text.strip()
    if not text or text[0] not in _FIRST or len(text) > _LONGEST:
        return None
    bracketed = text[0] == "[" and text[-1] == "]"
    text = text[1:-1] if bracketed else text
    # The signs of the beginning tell almost all other text apart, however long it is.
    if not _SIGNS.issuperset(text[:64]) or not _SIGNS.issuperset(text):
        return None
    if "," in text:
        parts = _COMMA.split(text.strip())
    else:
        parts = text.split()
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if bracketed:
        return numbers if len(numbers) >= 2 else None
    points = sum("." in part for part in parts)
    return numbers if (points >= 3 and 2 * points >= len(parts)) or len(parts) >= INTEGERS else None

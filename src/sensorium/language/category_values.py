"""The values that cells of a category stand for, and which of them are nearly the same."""

from __future__ import annotations

import numbers
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any, Literal

from sensorium.core.scalars import plain

Answer = Literal["str", "int", "float", "bool"]
"""What a value is in Python."""

_WHOLE = re.compile(r"([+-]?[0-9]+)\.0+")
_INT = re.compile(r"0|-?[1-9][0-9]{0,17}")
_TRUTHS = frozenset({"true", "false"})


def label(cell: Any) -> str | None:
    """The value a cell stands for, as text: ``1``, ``1.0`` and ``"1"`` are one; None where it is no single value."""
    cell = plain(cell)
    if isinstance(cell, str):
        whole = _WHOLE.fullmatch(cell.strip())
        return whole[1] if whole else cell.strip()
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, numbers.Real) or type(cell).__name__ == "Decimal":
        try:
            value = float(cell)
        except OverflowError:  # a whole number of hundreds of digits
            return None
        return str(int(cell)) if value.is_integer() else str(value)
    if cell is None or isinstance(cell, (bytes, list, tuple, dict, set)) or hasattr(cell, "__array__"):
        return None
    if isinstance(cell, datetime):
        # A day that a library made a moment of is that day.
        return cell.date().isoformat() if cell.time() == time() and cell.tzinfo is None else cell.isoformat(" ")
    if isinstance(cell, date):
        return cell.isoformat()
    return str(cell).strip()


def folded(value: str) -> str:
    """A value without what people write differently: case, blanks, Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold()).split())


def commonest(counts: Mapping[str, int]) -> str:
    """The spelling that most cells have; of several, one in composed Unicode."""
    return max(sorted(counts), key=lambda value: (counts[value], unicodedata.is_normalized("NFC", value)))


def alike(values: Iterable[str]) -> list[list[str]]:
    """The groups of values that differ in case, blanks or Unicode form only."""
    groups: dict[str, list[str]] = {}
    for value in values:
        groups.setdefault(folded(value), []).append(value)
    return [group for group in groups.values() if len(group) > 1]


def answer_type(values: Iterable[str], texts: bool) -> Answer:
    """What the labels of a column are in Python.

    Labels of a CSV file are texts; as pandas does, they count as whole numbers if all are written as Python writes whole
    numbers (``0``, ``-3``; not ``01`` or ``+1``), and as truths if all are true or false. Other texts stay texts.

    Args:
        values: The labels as ``label`` gives them.
        texts: Whether any of them stood as text in the table.
    """
    values = list(values)
    if not values:
        return "str"
    if all(value.lower() in _TRUTHS for value in values):
        return "bool"
    if all(_INT.fullmatch(value) for value in values):
        return "int"
    if texts:
        return "str"
    try:
        return "float" if all(repr(float(v)) == v or _INT.fullmatch(v) for v in values) else "str"
    except ValueError:
        return "str"


def answered(value: str, kind: Answer) -> str | int | float | bool:
    """A label as Python has it."""
    if kind == "bool":
        return value.lower() == "true"
    return int(value) if kind == "int" else float(value) if kind == "float" else value


def same_number(values: Iterable[str]) -> dict[float, int]:
    """By number, the index of the only value that writes it: 02139 is 2139 once a spreadsheet has had it."""
    found: dict[float, int] = {}
    twice = set()
    for i, value in enumerate(values):
        if len(value) > 18 or not value.isascii() or not value[-1:].isdigit() or "_" in value:
            continue
        try:
            number = float(value)
        except ValueError:
            continue
        if number in found:
            twice.add(number)
        found.setdefault(number, i)
    return {number: i for number, i in found.items() if number not in twice}


def near(value: str, known: Mapping[str, str], most: int = 2000) -> str:
    """The known value that another may stand for; empty where none is near. ``known``: folded value to value."""
    key = folded(value)
    if key in known:
        return known[key]
    close = get_close_matches(key, list(known)[:most], n=1, cutoff=0.7)
    return known[close[0]] if close else ""

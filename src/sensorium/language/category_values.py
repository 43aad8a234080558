"""Labels of category cells, and comparison of similar labels."""

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
"""The Python type of labels."""

_INTEGRAL = re.compile(r"([+-]?[0-9]+)\.0+")
_INT = re.compile(r"0|-?[1-9][0-9]{0,17}")
_BOOLEANS = frozenset({"true", "false"})


def label(cell: Any) -> str | None:
    """Return the label of ``cell`` as text: ``1``, ``1.0`` and ``"1"`` are equal; None if it is not a single value."""
    cell = plain(cell)
    if isinstance(cell, str):
        integral = _INTEGRAL.fullmatch(cell.strip())
        return integral[1] if integral else cell.strip()
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, numbers.Real) or type(cell).__name__ == "Decimal":
        try:
            value = float(cell)
        except OverflowError:  # an integer of hundreds of digits
            return None
        return str(int(cell)) if value.is_integer() else str(value)
    if cell is None or isinstance(cell, (bytes, list, tuple, dict, set)) or hasattr(cell, "__array__"):
        return None
    if isinstance(cell, datetime):
        # Libraries read a date as midnight of that day.
        return cell.date().isoformat() if cell.time() == time() and cell.tzinfo is None else cell.isoformat(" ")
    if isinstance(cell, date):
        return cell.isoformat()
    return str(cell).strip()


def fold_label(value: str) -> str:
    """Return ``value`` without differences of case, white space and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold()).split())


def commonest(counts: Mapping[str, int]) -> str:
    """Return the most frequent spelling in ``counts``; of equally frequent ones, one in composed Unicode."""
    return max(sorted(counts), key=lambda value: (counts[value], unicodedata.is_normalized("NFC", value)))


def similar_groups(values: Iterable[str]) -> list[list[str]]:
    """Return the groups of ``values`` that differ only in case, white space or Unicode form."""
    groups: dict[str, list[str]] = {}
    for value in values:
        groups.setdefault(fold_label(value), []).append(value)
    return [group for group in groups.values() if len(group) > 1]


def answer_type(values: Iterable[str], texts: bool) -> Answer:
    """Return the Python type of the labels of a column.

    Labels of a CSV file are text. As in pandas, they are integers if all are written as Python writes integers (``0``,
    ``-3``; not ``01`` or ``+1``), and booleans if all are true or false.

    Args:
        values: The labels, from ``label``.
        texts: Whether any of them is text in the table.
    """
    values = list(values)
    if not values:
        return "str"
    if all(value.lower() in _BOOLEANS for value in values):
        return "bool"
    if all(_INT.fullmatch(value) for value in values):
        return "int"
    if texts:
        return "str"
    try:
        return "float" if all(repr(float(v)) == v or _INT.fullmatch(v) for v in values) else "str"
    except ValueError:
        return "str"


def to_python(value: str, kind: Answer) -> str | int | float | bool:
    """Return the label ``value`` as the Python type ``kind``."""
    if kind == "bool":
        return value.lower() == "true"
    return int(value) if kind == "int" else float(value) if kind == "float" else value


def same_number(values: Iterable[str]) -> dict[float, int]:
    """Map each number to the index of the only one of ``values`` that equals it: spreadsheets turn 02139 into 2139."""
    indices: dict[float, int] = {}
    twice = set()
    for i, value in enumerate(values):
        if len(value) > 18 or not value.isascii() or not value[-1:].isdigit() or "_" in value:
            continue
        try:
            number = float(value)
        except ValueError:
            continue
        if number in indices:
            twice.add(number)
        indices.setdefault(number, i)
    return {number: i for number, i in indices.items() if number not in twice}


def nearest_label(value: str, known: Mapping[str, str], most: int = 2000) -> str:
    """Return the known label most similar to ``value``; empty if there is none.

    Args:
        value: The label to look up.
        known: Known labels by their ``folded`` form.
        most: Maximum number of known labels to compare with.
    """
    key = fold_label(value)
    if key in known:
        return known[key]
    close = get_close_matches(key, list(known)[:most], n=1, cutoff=0.7)
    return known[close[0]] if close else ""

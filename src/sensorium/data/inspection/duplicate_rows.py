"""Rows that occur twice: within a table, with another answer, or in two tables (then the score of one is too good)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sensorium.core.modality import is_blank
from sensorium.data.store.content_digest import digest
from sensorium.data.tables.table import Table

Key = tuple[Any, ...]
Digests = Mapping[str, Sequence[bytes | None]]
"""The content of media columns, row by row: copies of a picture under two names are one picture."""


def keys(table: Table, names: Sequence[str], digests: Digests) -> list[Key | None]:
    """For each row what it says in the columns ``names``; None where it says nothing."""
    columns: list[Sequence[Any]] = []
    for name in names:
        if not table.has(name):
            columns.append([None] * len(table))
        elif name in digests:
            # What cannot be opened is told apart by what stands in its cell: two broken addresses are not one picture.
            opened = zip(digests[name], table.column(name), strict=True)
            columns.append([value(cell) if content is None else content for content, cell in opened])
        else:
            columns.append([value(cell) for cell in table.column(name)])
    if not columns:
        return [None] * len(table)
    return [key if any(part is not None for part in key) else None for key in zip(*columns, strict=True)]


def value(cell: Any) -> Any:
    """A cell as something that can be compared and hashed; None where it is missing."""
    if is_blank(cell):
        return None
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, (list, tuple, dict, set, bytearray)) or hasattr(cell, "__array_interface__"):
        return digest(cell if not isinstance(cell, (dict, set)) else repr(cell))
    return cell


def within(found: Sequence[Key | None]) -> list[tuple[int, int]]:
    """Pairs (first row, later row) of indices that say the same."""
    first: dict[Key, int] = {}
    pairs = []
    for i, key in enumerate(found):
        if key is not None and (start := first.setdefault(key, i)) != i:
            pairs.append((start, i))
    return pairs


def across(one: Sequence[Any], other: Sequence[Any]) -> list[tuple[int, int]]:
    """Pairs (row of one, row of other): for each row of ``other`` that occurs in ``one``, where it first does."""
    first: dict[Any, int] = {}
    for i, key in enumerate(one):
        if key is not None:
            first.setdefault(key, i)
    return [(first[key], i) for i, key in enumerate(other) if key is not None and key in first]

"""Duplicate rows: within a table, with contradicting targets, or across tables (which makes scores too good)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sensorium.core.modality import is_blank
from sensorium.data.store.content_digest import digest
from sensorium.data.tables.table import Table

Key = tuple[Any, ...]
Digests = Mapping[str, Sequence[bytes | None]]
"""Content digests of media columns by row, so that copies of a file under other names are recognised."""


def keys(table: Table, names: Sequence[str], digests: Digests) -> list[Key | None]:
    """Return for each row a comparison key of its cells; None where all are missing.

    Args:
        table: The table.
        names: The columns to compare; absent ones count as missing.
        digests: Content digests of media columns.
    """
    columns: list[Sequence[Any]] = []
    for name in names:
        if not table.has(name):
            columns.append([None] * len(table))
        elif name in digests:
            # Media that cannot be opened are compared by their cells: two broken paths are not the same picture.
            opened = zip(digests[name], table.column(name), strict=True)
            columns.append([value(cell) if content is None else content for content, cell in opened])
        else:
            columns.append([value(cell) for cell in table.column(name)])
    if not columns:
        return [None] * len(table)
    return [key if any(part is not None for part in key) else None for key in zip(*columns, strict=True)]


def value(cell: Any) -> Any:
    """Return ``cell`` as a hashable value for comparison; None where it is missing."""
    if is_blank(cell):
        return None
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, (list, tuple, dict, set, bytearray)) or hasattr(cell, "__array_interface__"):
        return digest(cell if not isinstance(cell, (dict, set)) else repr(cell))
    return cell


def duplicate_pairs(row_keys: Sequence[Key | None]) -> list[tuple[int, int]]:
    """Return pairs (first row, later row) of indices with equal ``row_keys``."""
    first: dict[Key, int] = {}
    pairs = []
    for i, key in enumerate(row_keys):
        if key is not None and (start := first.setdefault(key, i)) != i:
            pairs.append((start, i))
    return pairs


def shared_pairs(first_keys: Sequence[Any], second_keys: Sequence[Any]) -> list[tuple[int, int]]:
    """Return pairs (first row in ``first_keys``, row in ``second_keys``) of equal keys."""
    first: dict[Any, int] = {}
    for i, key in enumerate(first_keys):
        if key is not None:
            first.setdefault(key, i)
    return [(first[key], i) for i, key in enumerate(second_keys) if key is not None and key in first]

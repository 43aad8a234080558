"""Replacement of lone surrogates (halves of characters): JSON and Python strings may hold them, UTF-8 cannot."""

from __future__ import annotations

import re
from typing import Any

from sensorium.core import scalars
from sensorium.data.tables.text_encoding import AddNote

ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
"""A surrogate as JSON escapes it; text without one needs no check."""


def replace_surrogates(value: Any) -> Any:
    """Return a cell's ``value`` with U+FFFD for each lone surrogate, or the same object where nothing changes."""
    if isinstance(value, str):
        return value if value.isascii() else scalars.replace_surrogates(value)
    if isinstance(value, list):
        # A list of numbers may be long and holds no text.
        if value and isinstance(value[0], (int, float)):
            return value
        parts = [replace_surrogates(part) for part in value]
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else parts
    if isinstance(value, dict):
        mapping = {replace_surrogates(key): replace_surrogates(part) for key, part in value.items()}
        return value if all(a is b for a, b in zip(mapping.values(), value.values(), strict=False)) else mapping
    return value


def mend(columns: dict[str, list[Any]], source: str, add_note: AddNote) -> dict[str, list[Any]]:
    """Replace lone surrogates in names and cells, in place, and report the number of changed cells once.

    Args:
        columns: Cells by column.
        source: What the note calls the table.
        add_note: Receives the note.

    Returns:
        The columns under their mended names.
    """
    count, first = 0, ""
    for name, cells in columns.items():
        for i, cell in enumerate(cells):
            if isinstance(cell, (str, list, dict)) and (mended := replace_surrogates(cell)) is not cell:
                cells[i] = mended
                count += 1
                first = first or f"row {i + 1}, column {replace_surrogates(name)!r}"
    if count:
        many = "cells hold halves of characters" if count > 1 else "cell holds half of a character"
        add_note(f"{source}: {count} {many} (lone surrogates), read as �; the first: {first}")
    return {replace_surrogates(name): cells for name, cells in columns.items()}

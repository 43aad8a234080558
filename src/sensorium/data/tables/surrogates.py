"""Halves of characters (lone surrogates): JSON and Python allow them in text, and nothing that writes UTF-8 does."""

from __future__ import annotations

import re
from typing import Any

from sensorium.core import scalars
from sensorium.data.tables.text_encoding import Tell

ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON spells a surrogate: a line without it needs no looking into."""


def whole(value: Any) -> Any:
    """A cell with U+FFFD for each half of a character in its text, pairs of halves joined; itself where all is well."""
    if isinstance(value, str):
        return value if value.isascii() else scalars.whole(value)
    if isinstance(value, list):
        # A list of numbers, perhaps of very many, needs no looking into.
        if value and isinstance(value[0], (int, float)):
            return value
        parts = [whole(part) for part in value]
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else parts
    if isinstance(value, dict):
        made = {whole(key): whole(part) for key, part in value.items()}
        return value if all(a is b for a, b in zip(made.values(), value.values(), strict=False)) else made
    return value


def mend(columns: dict[str, list[Any]], source: str, tell: Tell) -> dict[str, list[Any]]:
    """Columns without halves of characters, in names and cells; what was replaced is told, once."""
    count, first = 0, ""
    for name, cells in columns.items():
        for i, cell in enumerate(cells):
            if isinstance(cell, (str, list, dict)) and (mended := whole(cell)) is not cell:
                cells[i] = mended
                count += 1
                first = first or f"row {i + 1}, column {whole(name)!r}"
    if count:
        many = "cells hold halves of characters" if count > 1 else "cell holds half of a character"
        tell(f"{source}: {count} {many} (lone surrogates), read as �; the first: {first}")
    return {whole(name): cells for name, cells in columns.items()}

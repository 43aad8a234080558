"""The marker of generated rows in tables and media files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensorium.core.modality import is_blank

if TYPE_CHECKING:
    from sensorium.data.tables.table import Table

MARK = "made_by_sensorium"
"""The column that marks made rows: filled in those, empty or absent in real ones. It is never an input."""
ROWS = "rows.csv"
"""The table in a folder of made rows."""


def made_rows(table: Table) -> list[bool]:
    """Return for each row of ``table`` whether it is marked as made."""
    if not table.has(MARK):
        return [False] * len(table)
    return [not is_blank(cell) for cell in table.column(MARK)]


def marked(row: dict[str, Any], by: str) -> dict[str, Any]:
    """Return ``row`` marked as made; ``by`` describes the generator."""
    return {**row, MARK: by}

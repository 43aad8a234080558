"""Counts with their nouns: ``1 cell``, ``2 cells``, ``1,234 rows``."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return ``number`` with its noun: ``one``, or ``many``, by default ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"

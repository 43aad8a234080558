"""Numbers of things in words: ``1 cell``, ``2 cells``, ``1,234 rows``."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """``number`` with its noun: ``one`` or ``many``, which is ``one`` with an s unless given."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"

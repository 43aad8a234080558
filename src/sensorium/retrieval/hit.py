"""What a search finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Hit:
    """A row that a search found.

    Args:
        id: Its identifier in the index.
        score: The cosine similarity to the query, -1 to 1.
        side: The side by which it was found.
        cells: Its shown cells by column.
    """

    id: str
    score: float
    side: str
    cells: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The hit as plain data."""
        return {"id": self.id, "score": self.score, "side": self.side, "cells": self.cells}

"""Columns of a table whose reader knows which of them annotate the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class AnnotatedColumns(dict[str, list[Any]]):
    """Columns of which some are annotations of the others: targets, unless the user says otherwise.

    Args:
        columns: Cells by column.
        annotations: The columns that are annotations, the default target first.
        numbers: The row of the source in which each row begins, counted from 1; None: rows are as in the source.
    """

    def __init__(
        self, columns: Mapping[str, list[Any]], annotations: Sequence[str], numbers: Sequence[int] | None = None
    ) -> None:
        super().__init__(columns)
        self.annotations, self.numbers = tuple(annotations), numbers

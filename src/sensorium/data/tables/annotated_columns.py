"""Columns of a source that itself says which of them are answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class AnnotatedColumns(dict[str, list[Any]]):
    """Columns of which some are known to be targets: what is annotated.

    Args:
        columns: Cells by column.
        target: The default target.
        annotations: The columns that are annotated: answers, never inputs.
    """

    def __init__(self, columns: Mapping[str, list[Any]], target: str | None, annotations: Sequence[str] = ()) -> None:
        super().__init__(columns)
        self.target, self.annotations = target, tuple(annotations)

"""Whether a cell is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component


@component
class Missing(Modality):
    """Whether the cell of another column is empty, as a category of its own: the indicator beside an imputed number.

    Declared with ``of``: ``{age: {kind: number, impute: median}, age_missing: {kind: missing, of: age}}``.
    Encoded as ``[1]``: 0 there, 1 missing. A row of which every table cell is missing stays a missing one.
    Source: the missing-indicator method, https://doi.org/10.1093/biomet/63.3.581 for why absence may tell something.
    """

    stream = "table"
    widget = "text"
    fills = True

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "only where it is told: it says of any cell whether it is there")

    def fit(self, cells: Iterable[Any]) -> None:
        """Nothing: what is empty is known."""

    @property
    def layout(self) -> Layout:
        return Row((2,))

    def encode(self, cell: Any) -> Array:
        return np.zeros(1, dtype=np.float32)

    def blank(self) -> Array:
        return np.ones(1, dtype=np.float32)

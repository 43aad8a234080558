"""Missing-value indicators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component


@component
class Missing(Modality):
    """Missing-value indicator of another column, used beside an imputed number.

    Declared with ``of``: ``{age: {kind: number, impute: median}, age_missing: {kind: missing, of: age}}``.
    Encoded as ``[1]``: 0 present, 1 missing. A row whose table cells are all missing still counts as missing.
    Source: the missing-indicator method; https://doi.org/10.1093/biomet/63.3.581 explains when absence is informative.
    """

    stream = "table"
    widget = "text"
    fills = True

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "never guessed: any column has missing or present cells")

    def fit(self, cells: Iterable[Any]) -> None:
        """Do nothing: there is nothing to learn."""

    @property
    def layout(self) -> Layout:
        return Row((2,))

    def encode(self, cell: Any) -> Array:
        return np.zeros(1, dtype=np.float32)

    def blank(self) -> Array:
        return np.ones(1, dtype=np.float32)

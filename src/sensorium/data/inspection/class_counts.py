"""The classes that cells of a target say, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import CellError
from sensorium.core.modality import Modality
from sensorium.data.inspection.duplicate_rows import value


def classes(cells: Sequence[Any], spec: Mapping[str, Any]) -> tuple[Counter[str], int]:
    """How many cells say each class (a cell of tags says several), and how many cells say any."""
    modality: Modality = registry.build("modalities", spec)
    if not modality.classed:
        return Counter(), 0
    filled = [cell for cell in cells if not modality.missing(cell)]
    modality.fit(filled)
    # Decoding what was encoded gives the value itself: "1.0" and 1 are one class. Once a value is enough.
    seen: dict[Any, list[str]] = {}
    counts: Counter[str] = Counter()
    for cell in filled:
        key = cell.strip() if isinstance(cell, str) else value(cell)
        if key not in seen:
            try:
                said = modality.decode(modality.encode_target(cell))
            except CellError:
                said = []
            seen[key] = [str(v) for v in said] if isinstance(said, (list, tuple)) else [str(said)]
        counts.update(seen[key])
    return counts, len(filled)

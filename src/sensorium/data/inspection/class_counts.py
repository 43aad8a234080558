"""Class counts of a target column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import CellError
from sensorium.core.modality import Modality
from sensorium.data.inspection.duplicate_rows import value


def classes(cells: Sequence[Any], spec: Mapping[str, Any]) -> tuple[Counter[str], int]:
    """Count the cells of each class of a target, tags once for each tag.

    Args:
        cells: The target's cells.
        spec: The column's kind and options.

    Returns:
        Cells by class (empty for a target without classes) and the number of non-missing cells.
    """
    modality: Modality = registry.build("modalities", spec)
    if not modality.classed:
        return Counter(), 0
    filled = [cell for cell in cells if not modality.missing(cell)]
    modality.fit(filled)
    # Decoding the encoded value normalises it: "1.0" and 1 are one class. Done once per distinct cell.
    labels_of: dict[Any, list[str]] = {}
    counts: Counter[str] = Counter()
    for cell in filled:
        key = cell.strip() if isinstance(cell, str) else value(cell)
        if key not in labels_of:
            try:
                decoded = modality.decode(modality.encode_target(cell))
            except CellError:
                decoded = []
            labels_of[key] = [str(v) for v in decoded] if isinstance(decoded, (list, tuple)) else [str(decoded)]
        counts.update(labels_of[key])
    return counts, len(filled)

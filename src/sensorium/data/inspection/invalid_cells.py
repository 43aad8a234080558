"""Cells of numbers, dates, categories and tags that cannot be read, and values that a later table has first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import CellError
from sensorium.core.modality import Modality
from sensorium.core.plurals import counted
from sensorium.core.schema import Problem
from sensorium.data.tables.table import Table

SHOWN = 4
_REMEMBERED = 10_000
"""Different cells a column, at most, whose fate is kept."""


def unusable(
    name: str, spec: Mapping[str, Any], tables: Mapping[str, Table], target: bool
) -> tuple[dict[str, list[Problem]], list[str]]:
    """By table the cells that the modality of a column, fitted on the first, cannot read; and what else to warn of."""
    modality: Modality = registry.build("modalities", spec)
    if modality.stream is None or modality.media or (target and modality.classed):
        return {}, []  # classes that a later table has first are told of where classes are counted
    train = next(iter(tables))
    modality.fit(cell for cell in tables[train].column(name) if not modality.missing(cell))
    encode = modality.encode_target if target else modality.encode
    found: dict[str, list[Problem]] = {}
    warnings = []
    seen: dict[tuple[type, Any], tuple[str, str]] = {}

    def fate(cell: Any) -> tuple[str, str]:
        """What is wrong with a cell, and what is new about it."""
        key = (type(cell), cell) if isinstance(cell, (str, int, float)) else None
        if key is not None and key in seen:
            return seen[key]
        try:
            encode(cell)
            said = ("", modality.unfamiliar(cell))
        except CellError as error:
            said = (error.problem, "")
        if key is not None and len(seen) < _REMEMBERED:
            seen[key] = said
        return said

    for key, table in tables.items():
        if not table.has(name):
            continue
        problems, new = [], Counter[str]()
        for i, cell in enumerate(table.column(name)):
            if modality.missing(cell):
                continue
            problem, unknown = fate(cell)
            if problem:
                problems.append(Problem(table.number(i), name, None, problem))
            elif unknown and key != train:
                new[unknown] += 1
        found[key] = problems
        if new:
            said = "; ".join(f"{told} ({count})" for told, count in new.most_common(SHOWN))
            more = f"; and {len(new) - SHOWN} more" if len(new) > SHOWN else ""
            have = f"of {name!r} has a value" if new.total() == 1 else f"of {name!r} have values"
            warnings.append(f"{key}: {counted(new.total(), 'cell')} {have} that {train} does not: {said}{more}")
    return found, warnings

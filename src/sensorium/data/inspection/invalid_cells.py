"""Unreadable cells of numbers, dates, categories and tags, and values that only later tables have."""

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
_CACHED = 10_000
"""Most distinct cells per column whose result is cached."""


def unusable(
    name: str, spec: Mapping[str, Any], tables: Mapping[str, Table], target: bool
) -> tuple[dict[str, list[Problem]], list[str]]:
    """Find the cells of a column that its modality, fitted on the first table, cannot read.

    Args:
        name: The column.
        spec: Its kind and options.
        tables: The tables; the first is the training table.
        target: Whether the column is a target.

    Returns:
        Problems by table, and warnings on values that the training table lacks.
    """
    modality: Modality = registry.build("modalities", spec)
    if modality.stream is None or modality.media or (target and modality.classed):
        return {}, []  # new classes are reported where classes are counted
    train = next(iter(tables))
    modality.fit(cell for cell in tables[train].column(name) if not modality.missing(cell))
    encode = modality.encode_target if target else modality.encode
    problems_of: dict[str, list[Problem]] = {}
    warnings = []
    results: dict[tuple[type, Any], tuple[str, str | None, str]] = {}

    def check(cell: Any) -> tuple[str, str | None, str]:
        """Return what is wrong with a cell, its remedy, and which of its values is unknown from the first table."""
        key = (type(cell), cell) if isinstance(cell, (str, int, float)) else None
        if key is not None and key in results:
            return results[key]
        result: tuple[str, str | None, str]
        try:
            encode(cell)
            result = ("", None, modality.unfamiliar(cell))
        except CellError as error:
            result = (error.problem, error.fix, "")
        if key is not None and len(results) < _CACHED:
            results[key] = result
        return result

    for key, table in tables.items():
        if not table.has(name):
            continue
        problems, new = [], Counter[str]()
        for i, cell in enumerate(table.column(name)):
            if modality.missing(cell):
                continue
            problem, fix, unknown = check(cell)
            if problem:
                problems.append(Problem(table.number(i), name, None, problem, fix=fix))
            elif unknown and key != train:
                new[unknown] += 1
        problems_of[key] = problems
        if new:
            examples = "; ".join(f"{value} ({count})" for value, count in new.most_common(SHOWN))
            more = f"; and {len(new) - SHOWN} more" if len(new) > SHOWN else ""
            have = f"of {name!r} has a value" if new.total() == 1 else f"of {name!r} have values"
            warnings.append(f"{key}: {counted(new.total(), 'cell')} {have} that {train} does not: {examples}{more}")
    return problems_of, warnings

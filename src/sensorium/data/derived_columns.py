"""Derived columns: further ways to read the cells of a column, such as the sound track of a video."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sensorium.core.errors import CellError, ConfigError, DataError, nearest
from sensorium.core.modality import Modality, is_blank
from sensorium.core.registry import find
from sensorium.core.schema import Opener, content
from sensorium.data.tables.table import Table

LOOKED_AT = 4
"""Cells opened to see what else is in them."""


def offered(table: Table, kinds: Mapping[str, str], taken: Collection[str], media: Opener) -> dict[str, dict[str, Any]]:
    """The derived columns that input columns (name → kind) offer, as a recipe declares them.

    Args:
        taken: Columns of which a derived one was declared by hand: they offer no further one.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, kind in kinds.items():
        modality: type[Modality] = find("modalities", kind)
        if name in taken or modality.beside.__func__ is Modality.beside.__func__:  # type: ignore[attr-defined]
            continue
        cells = []
        for i, cell in enumerate(table.column(name)):
            if is_blank(cell):
                continue
            try:
                cells.append(content(modality, cell, media, table.number(i), name))
            except CellError:
                continue  # It is told of when its turn comes to be encoded.
            if len(cells) == LOOKED_AT:
                break
        for other, spec in modality.beside(cells, name).items():
            free = other
            while table.has(free) or free in found:
                free += "_"
            found[free] = {**spec, "of": name}
    return found


def sources(table: Table, told: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The derived columns among what was told (column → spec), each with the column it reads."""
    found = {}
    for name, spec in told.items():
        of = spec.get("of")
        if of is None:
            continue
        if table.has(name):
            raise ConfigError("is a column of the table, so it cannot be derived", column=name, fix="choose a new name")
        if not table.has(str(of)):
            raise DataError(f"is derived of {of!r}: no such column{nearest(str(of), table.columns)}", column=name)
        if "kind" not in spec and spec.get("role", "input") == "input":
            raise ConfigError("a derived column needs a kind", column=name, fix=f"write {{kind: audio, of: {of}}}")
        found[name] = str(of)
    return found


def with_derived(tables: Mapping[str, Table], derived: Mapping[str, str]) -> dict[str, Table]:
    """The tables with derived columns (name → the column read) as columns of their own."""
    made = dict(tables)
    for name, of in derived.items():
        made = {key: t.with_column(name, t.column(of)) if t.has(of) else t for key, t in made.items()}
    return made

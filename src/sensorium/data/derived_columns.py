"""Derived columns: further readings of a column's cells, such as the sound track of a video."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sensorium.core.cell_content import Opener, content
from sensorium.core.errors import CellError, ConfigError, DataError, nearest
from sensorium.core.modality import Modality, is_blank
from sensorium.core.registry import find
from sensorium.data.tables.table import Table

SAMPLED = 4
"""Cells opened to see what else they contain."""


def offered_columns(
    table: Table, kinds: Mapping[str, str], taken: Collection[str], media: Opener
) -> dict[str, dict[str, Any]]:
    """Return the derived columns that input columns offer, as a recipe declares them.

    Args:
        table: The training table.
        kinds: The input columns, with the modality of each.
        taken: Columns with a derived column already declared; they offer none.
        media: Opens media cells.
    """
    columns: dict[str, dict[str, Any]] = {}
    for name, kind in kinds.items():
        modality: type[Modality] = find("modalities", kind)
        if name in taken or modality.derived_columns.__func__ is Modality.derived_columns.__func__:  # type: ignore[attr-defined]
            continue
        cells = []
        for i, cell in enumerate(table.column(name)):
            if is_blank(cell):
                continue
            try:
                cells.append(content(modality, cell, media, table.number(i), name))
            except CellError:
                continue  # reported when the cell is encoded
            if len(cells) == SAMPLED:
                break
        for proposed, spec in modality.derived_columns(cells, name).items():
            unused = proposed
            while table.has(unused) or unused in columns:
                unused += "_"
            columns[unused] = {**spec, "of": name}
    return columns


def declared_sources(table: Table, specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the derived columns that the user declared, with the column each reads.

    Args:
        table: The training table.
        specs: The user's column options.

    Raises:
        ConfigError: A derived column has the name of a table column, or lacks a kind.
        DataError: The column that it reads does not exist.
    """
    source_of = {}
    for name, spec in specs.items():
        of = spec.get("of")
        if of is None:
            continue
        if table.has(name):
            raise ConfigError("is a column of the table, so it cannot be derived", column=name, fix="choose a new name")
        if not table.has(str(of)):
            raise DataError(f"is derived from {of!r}: no such column{nearest(str(of), table.columns)}", column=name)
        if "kind" not in spec and spec.get("role", "input") == "input":
            raise ConfigError("a derived column needs a kind", column=name, fix=f"write {{kind: audio, of: {of}}}")
        source_of[name] = str(of)
    return source_of


def with_derived(tables: Mapping[str, Table], derived: Mapping[str, str]) -> dict[str, Table]:
    """Return the tables with derived columns added.

    Args:
        tables: Tables by name.
        derived: The column that each derived column reads.
    """
    extended = dict(tables)
    for name, of in derived.items():
        extended = {key: t.with_column(name, t.column(of)) if t.has(of) else t for key, t in extended.items()}
    return extended

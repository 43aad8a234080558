"""Values and columns of a later table that training did not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

from sensorium.core.errors import listed
from sensorium.core.plurals import counted
from sensorium.core.schema import Record, Schema

SHOWN = 5
_MATCHED = 100
"""Most missing columns for which similar names are looked up."""
_CACHED = 10_000
"""Most distinct values per column whose message is cached."""


class UnseenValues:
    """Counts values that training did not have, row by row.

    Unknown categories share one code and unknown tags are dropped, without an error or a trace in the prediction.

    Args:
        schema: The trained schema.
    """

    def __init__(self, schema: Schema) -> None:
        self.columns = {c.name: c.reader for c in schema.inputs if c.of is None and not c.reader.media}
        self.counts: dict[str, Counter[str]] = {}
        self._known: dict[str, dict[object, str]] = {name: {} for name in self.columns}

    def add(self, row: Record) -> None:
        """Count the unseen values of ``row``."""
        for name, modality in self.columns.items():
            cell = row.get(name)
            if not modality.missing(cell) and (message := self._message(name, cell)):
                self.counts.setdefault(name, Counter())[message] += 1

    def _message(self, name: str, cell: object) -> str:
        known = self._known[name]
        if not isinstance(cell, (str, int, float)):
            return self.columns[name].unfamiliar(cell)
        key = (type(cell), cell)
        if key in known:
            return known[key]
        message = self.columns[name].unfamiliar(cell)
        if len(known) < _CACHED:
            known[key] = message
        return message

    def lines(self) -> list[str]:
        """Return a line for each column: the number of such cells, and the most frequent values with similar known ones."""
        lines = []
        for name, counts in self.counts.items():
            first = "; ".join(f"{message} ({count})" for message, count in counts.most_common(SHOWN))
            more = f"; and {len(counts) - SHOWN} more values" if len(counts) > SHOWN else ""
            cells = counted(counts.total(), "cell has a value", "cells have values")
            lines.append(f"column {name!r}: {cells} that training did not have: {first}{more}")
        return lines


def unseen_value_notes(schema: Schema, rows: Iterable[Record]) -> list[str]:
    """Return the lines of ``UnseenValues`` for all ``rows`` of a table, read with ``schema``."""
    counts = UnseenValues(schema)
    for row in rows:
        counts.add(row)
    return counts.lines()


def unknown_columns(schema: Schema, columns: Iterable[str]) -> dict[str, str]:
    """Return the columns of a table that the model does not know, with the model's column each may be meant for, or ``""``.

    Only a column that the table lacks can be meant. Columns that training ignored are known.

    Args:
        schema: The trained schema.
        columns: The table's columns.
    """
    names = list(columns)
    present = set(names)
    lacking = {_plain(c.source): c.source for c in schema.inputs + schema.targets if c.source not in present}
    near = list(lacking) if len(lacking) <= _MATCHED else []  # thousands against thousands would take minutes
    matches = {}
    for name in names:
        if name not in schema.columns:
            close = get_close_matches(_plain(name), near, n=1, cutoff=0.6)
            matches[name] = lacking[close[0]] if close else ""
    return matches


def misnamed_hint(schema: Schema, columns: Iterable[str]) -> str:
    """Return which of a table's ``columns`` may be meant for inputs of ``schema`` that it lacks, or ``""``."""
    meant = {column: name for name, column in unknown_columns(schema, columns).items() if column}
    hints = [f"{meant[c.source]!r} may be {c.source!r}" for c in schema.inputs if c.of is None and c.source in meant]
    return f"{'; '.join(hints)}: rename it" if hints else ""


def missing_columns_note(schema: Schema, source: str, columns: Iterable[str]) -> str:
    """Return a note on inputs that a table lacks, with columns that may be meant for them; empty where none is missing.

    Args:
        schema: The trained schema.
        source: What the note calls the table.
        columns: The table's columns.
    """
    names = list(columns)
    present = set(names)
    absent = [c.name for c in schema.inputs if c.source not in present]
    if not absent:
        return ""
    hint = misnamed_hint(schema, names)
    hint = f" ({hint})" if hint else ""
    return f"{source}: no column {listed(absent)}: taken as missing in every row{hint}"


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum()) or name

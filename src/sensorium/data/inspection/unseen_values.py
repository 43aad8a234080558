"""What a later table has that training did not: values, and columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

from sensorium.core.errors import listed
from sensorium.core.plurals import counted
from sensorium.core.schema import Record, Schema

SHOWN = 5
_COMPARED = 100
"""Columns that a table lacks, at most, for which a near name is looked for."""
_REMEMBERED = 10_000
"""Different values a column, at most, whose messages are kept."""


class Unfamiliar:
    """Counts the values that training did not have, row by row, so that a prediction can name them.

    An unknown value of a category is read as one that is not known, of tags left out: no error, and no trace in the answer.
    """

    def __init__(self, schema: Schema) -> None:
        self.columns = {c.name: c.reader for c in schema.inputs if c.of is None and not c.reader.media}
        self.counts: dict[str, Counter[str]] = {}
        self._known: dict[str, dict[object, str]] = {name: {} for name in self.columns}

    def add(self, row: Record) -> None:
        """Look at a row."""
        for name, modality in self.columns.items():
            cell = row.get(name)
            if not modality.missing(cell) and (told := self._told(name, cell)):
                self.counts.setdefault(name, Counter())[told] += 1

    def _told(self, name: str, cell: object) -> str:
        known = self._known[name]
        if not isinstance(cell, (str, int, float)):
            return self.columns[name].unfamiliar(cell)
        key = (type(cell), cell)
        if key in known:
            return known[key]
        said = self.columns[name].unfamiliar(cell)
        if len(known) < _REMEMBERED:
            known[key] = said
        return said

    def lines(self) -> list[str]:
        """What was found: by column how many cells, and the most frequent values with the near ones."""
        said = []
        for name, counts in self.counts.items():
            first = "; ".join(f"{told} ({count})" for told, count in counts.most_common(SHOWN))
            more = f"; and {len(counts) - SHOWN} more values" if len(counts) > SHOWN else ""
            have = counted(counts.total(), "cell has a value", "cells have values")
            said.append(f"column {name!r}: {have} that training did not: {first}{more}")
        return said


def unfamiliar(schema: Schema, rows: Iterable[Record]) -> list[str]:
    """The lines of ``Unfamiliar`` for all rows of a table."""
    found = Unfamiliar(schema)
    for row in rows:
        found.add(row)
    return found.lines()


def unknown_columns(schema: Schema, columns: Iterable[str]) -> dict[str, str]:
    """By column of a table that the model does not know: the column of the model that it may be meant for, or nothing.

    Only a column that the table lacks can be meant; what the training ignored is known.
    """
    here = list(columns)
    given = set(here)
    lacking = {_plain(c.source): c.source for c in schema.inputs + schema.targets if c.source not in given}
    near = list(lacking) if len(lacking) <= _COMPARED else []  # of thousands, each held up to thousands, it takes minutes
    found = {}
    for name in here:
        if name not in schema.columns:
            close = get_close_matches(_plain(name), near, n=1, cutoff=0.6)
            found[name] = lacking[close[0]] if close else ""
    return found


def misnamed(schema: Schema, columns: Iterable[str]) -> str:
    """Which columns of a table may be meant for inputs that it lacks, or nothing."""
    meant = {column: name for name, column in unknown_columns(schema, columns).items() if column}
    hints = [f"{meant[c.source]!r} may be {c.source!r}" for c in schema.inputs if c.of is None and c.source in meant]
    return f"{'; '.join(hints)}: rename it" if hints else ""


def absent_told(schema: Schema, source: str, columns: Iterable[str]) -> str:
    """A sentence about the inputs that a table lacks, with the columns that may be meant for them, or nothing."""
    here = list(columns)
    given = set(here)
    absent = [c.name for c in schema.inputs if c.source not in given]
    if not absent:
        return ""
    hint = misnamed(schema, here)
    hint = f" ({hint})" if hint else ""
    return f"{source}: no column {listed(absent)}: taken as missing in every row{hint}"


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum()) or name

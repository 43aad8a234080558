"""JSON lines: one object a row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError


def read_jsonl(path: Path) -> dict[str, list[Any]]:
    """The columns of a file with one JSON object a line; a key that a line lacks is a missing cell."""
    return from_records(_records(path), path)


def _records(path: Path) -> Iterable[Mapping[str, Any]]:
    row = 0
    with path.open("rb") as file:
        for line in file:
            if row == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            row += 1
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                raise DataError("not UTF-8 text", file=path, row=row, fix="save the file as UTF-8") from None
            except (ValueError, RecursionError) as error:
                fix = "each line is one whole JSON object; a pretty-printed file must be written a line a row"
                raise DataError(f"not JSON: {error}", file=path, row=row, fix=fix) from None
            yield record


def from_records(records: Iterable[Any], source: Path | str) -> dict[str, list[Any]]:
    """Rows as mappings to columns, in the order in which names first appear; absent cells are None."""
    columns: dict[str, list[Any]] = {}
    row = 0
    for row, record in enumerate(records, 1):
        if not isinstance(record, Mapping):
            fix = "write {column: cell, ...}"
            raise DataError(f"a row must be an object, not {type(record).__name__}", file=source, row=row, fix=fix)
        for name, cell in record.items():
            cells = columns.get(name)
            if cells is None:
                if not isinstance(name, str):
                    raise DataError(f"a column's name must be text, not {name!r}", file=source, row=row)
                cells = columns[name] = []
            # Rows before this one had no such cell.
            if len(cells) < row - 1:
                cells.extend([None] * (row - 1 - len(cells)))
            cells.append(cell)
    for cells in columns.values():
        cells.extend([None] * (row - len(cells)))
    return columns

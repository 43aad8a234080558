"""CSV and TSV: strict, in UTF-8, and every complaint names the row."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from sensorium.core.errors import DataError

CELL_LIMIT = 64 * 2**20
"""Characters in one cell. More is a quote that was never closed, or media that belongs in files of their own."""
CHUNK = 4096


def read_delimited(path: Path, delimiter: str | None) -> dict[str, list[Any]]:
    """The columns of a CSV file, cells as text. ``delimiter`` None: whichever of comma, semicolon and tab fits."""
    try:
        with _opened(path) as file:
            if delimiter is None:
                delimiter = _sniff(file)
                file.seek(0)
            return _read(path, file, delimiter)
    except UnicodeDecodeError:
        raise _undecodable(path, delimiter or ",") from None


@contextmanager
def _opened(path: Path, errors: str = "strict") -> Iterator[TextIO]:
    before = csv.field_size_limit(CELL_LIMIT)
    try:
        with path.open(encoding="utf-8-sig", newline="", errors=errors) as file:
            yield file
    finally:
        csv.field_size_limit(before)


def _sniff(file: TextIO) -> str:
    """The delimiter that cuts the first records into the same number of cells as the header, and into the most."""
    best, found = (0.0, 1), ","
    for delimiter in ",;\t":
        file.seek(0)
        try:
            counts = [len(record) for record in islice(csv.reader(file, delimiter=delimiter), 50) if record]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            score = (sum(count == counts[0] for count in counts) / len(counts), counts[0])
            if score > best:
                best, found = score, delimiter
    return found


def _read(path: Path, file: TextIO, delimiter: str) -> dict[str, list[Any]]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    row = 0
    try:
        header = next((record for record in reader if record), None)
        if header is None:
            raise DataError("the file is empty", file=path, fix="the first line must name the columns")
        names = column_names(header, path)
        columns: list[list[Any]] = [[] for _ in names]
        shared: list[dict[str, str]] = [{} for _ in names]
        chunk: list[list[str]] = []
        for record in reader:
            if not record:
                continue
            row += 1
            if len(record) != len(names):
                raise DataError(
                    f"{len(record)} cells, but the header names {len(names)} columns",
                    file=path,
                    row=row,
                    fix='put cells that hold a delimiter, a quote or a line break in quotes: "a, b"',
                )
            chunk.append(record)
            if len(chunk) == CHUNK:
                _append(columns, chunk, shared)
                chunk = []
        _append(columns, chunk, shared)
    except csv.Error as error:
        large = "field limit" in str(error)
        raise DataError(
            f"a cell of more than {CELL_LIMIT // 2**20} million characters" if large else f"{error}",
            file=path,
            row=row + 1,
            fix="a quote was opened and never closed, or the cell should be a file of its own"
            if large
            else 'check the quotes: a quote within a quoted cell is written twice ("")',
        ) from None
    return dict(zip(names, columns, strict=True))


def _append(columns: list[list[Any]], chunk: list[list[str]], shared: list[dict[str, str]]) -> None:
    for column, seen, cells in zip(columns, shared, zip(*chunk, strict=True), strict=False):
        for cell in cells:
            # One object for all cells that say the same: a category column then costs a pointer a row.
            if len(cell) <= 32 and (cell in seen or len(seen) < CHUNK):
                column.append(seen.setdefault(cell, cell))
            else:
                column.append(cell)


def column_names(header: Sequence[str], path: Path | str) -> list[str]:
    """The header's names, stripped; a column without a name (an exported index) is ``unnamed 1``."""
    names = [name.strip() or f"unnamed {i}" for i, name in enumerate(header, 1)]
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise DataError(f"columns named twice: {', '.join(twice)}", file=path, fix="give every column a name of its own")
    return names


def _undecodable(path: Path, delimiter: str) -> DataError:
    with path.open("rb") as raw:
        head = raw.read(2)
    if head in (b"\xff\xfe", b"\xfe\xff"):
        return DataError("the file is in UTF-16, not UTF-8", file=path, fix="save it as 'CSV UTF-8'")
    fix = "save it as UTF-8 ('CSV UTF-8' in a spreadsheet), or: iconv -f gb18030 -t utf-8 (for Western text -f cp1252)"
    row, column = 0, None
    # A second pass that lets bad bytes through as lone surrogates finds the very cell.
    with _opened(path, errors="surrogateescape") as file:
        try:
            reader = csv.reader(file, delimiter=delimiter)
            header: list[str] = []
            for row, record in enumerate((record for record in reader if record), 0):
                header = header or record
                bad = [i for i, cell in enumerate(record) if any("\udc80" <= c <= "\udcff" for c in cell)]
                if bad:
                    column = header[bad[0]] if row and bad[0] < len(header) else None
                    break
        except csv.Error:
            pass  # The bytes are what is wrong; the row reached so far is the best place to name.
    where = "" if row else " in the header"
    return DataError(f"not UTF-8 text{where}", file=path, row=row or None, column=column, fix=fix)

"""CSV, TSV and their kin: every complaint names the row, and the column where it can."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from sensorium.core.errors import DataError
from sensorium.core.plurals import counted
from sensorium.data.tables.text_encoding import Tell, is_escaped, lines, read_text, text

CELL_LIMIT = 64 * 2**20
"""Characters in one cell. More is a quote that was never closed, or media that belongs in files of their own."""
CHUNK = 4096
DELIMITERS = ",;\t|"
RARE = "^~\x01\x1f"
"""Delimiters of data bases: taken only where all records agree."""

_HEAD = 2**20
_SEP = re.compile(r'"?sep=([^"\r\n])"?[;,]*(\r\n|\n|\r|$)', re.IGNORECASE)


def read_delimited(path: Path, delimiter: str | None, tell: Tell = lambda _: None) -> dict[str, list[Any]]:
    """The columns of a CSV file, cells as text. ``delimiter`` None: what the line ``sep=;`` says, else whichever fits."""
    found, said = _delimiter(path, delimiter)

    def parse(file: TextIO) -> dict[str, list[Any]]:
        with _large_cells():
            return _read(path, lines(file, path), found, said)

    return read_text(path, parse, tell, lambda: _undecodable(path, found, said))


@contextmanager
def _large_cells() -> Iterator[None]:
    before = csv.field_size_limit(CELL_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(path: Path, told: str | None) -> tuple[str, bool]:
    """The delimiter, and whether the first line is there only to tell it."""
    with text(path, errors="surrogateescape") as file:
        # What cannot be decoded is met again when all is read; here it must not hide the delimiter.
        try:
            head = file.read(_HEAD)
        except UnicodeDecodeError:
            return told or ",", False
    first = _SEP.match(head.removeprefix("\ufeff"))
    if first is not None:
        return told or first[1], True
    return told or _sniff(head, len(head) == _HEAD), False


def _sniff(head: str, cut: bool) -> str:
    """The delimiter that cuts the first records into the same number of cells as the header, and into the most."""
    best, found = (0.0, 1), ","
    for delimiter in DELIMITERS + RARE:
        try:
            with _large_cells():
                records = list(islice(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), 50))
        except csv.Error:
            continue
        counts = [len(record) for record in (records[:-1] if cut and 1 < len(records) < 50 else records) if record]
        if counts and counts[0] > 1:
            score = (sum(count == counts[0] for count in counts) / len(counts), counts[0])
            if score > best and (delimiter in DELIMITERS or score[0] == 1):
                best, found = score, delimiter
    return found


def _records(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """The header and the rows. An empty line is nothing, but for a single column: there it is a row without a cell."""
    header = next((record for record in reader if record), None)
    if header is None:
        return
    yield header
    for record in reader:
        if record:
            yield record
        elif len(header) == 1:
            yield [""]


def _read(path: Path, source: Iterator[str], delimiter: str, said: bool) -> dict[str, list[Any]]:
    reader = csv.reader(islice(source, int(said), None), delimiter=delimiter, strict=True)
    row = 0
    try:
        records = _records(reader)
        header = next(records, None)
        if header is None:
            raise DataError("the file is empty", file=path, fix="the first line must name the columns")
        names = column_names(header, path)
        columns: list[list[Any]] = [[] for _ in names]
        shared: list[dict[str, str]] = [{} for _ in names]
        chunk: list[list[str]] = []
        for record in records:
            row += 1
            if len(record) != len(names):
                raise DataError(
                    f"{counted(len(record), 'cell')}, but the header names {counted(len(names), 'column')}",
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


def _undecodable(path: Path, delimiter: str, said: bool) -> DataError:
    """Where the first bytes stand that are not UTF-8."""
    fix = "save it as UTF-8 ('CSV UTF-8' in a spreadsheet), or: iconv -f gb18030 -t utf-8 (for Western text -f cp1252)"
    row, column = 0, None
    # A second pass that lets bad bytes through as lone surrogates finds the very cell.
    with text(path, errors="surrogateescape") as file, _large_cells():
        try:
            reader = csv.reader(islice(lines(file, path), int(said), None), delimiter=delimiter)
            header: list[str] = []
            for row, record in enumerate(_records(reader)):
                header = header or record
                bad = [i for i, cell in enumerate(record) if any(map(is_escaped, cell))]
                if bad:
                    column = header[bad[0]] if row and bad[0] < len(header) else None
                    break
        except (csv.Error, UnicodeDecodeError):
            pass  # The bytes are what is wrong; the row reached so far is the best place to name.
    where = "" if row else " in the header"
    return DataError(f"not UTF-8 text{where}", file=path, row=row or None, column=column, fix=fix)

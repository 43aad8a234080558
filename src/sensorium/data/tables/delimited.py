"""Reader of CSV, TSV and similar text; errors name the row, and the column where possible."""

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
from sensorium.data.tables.box_rows import box_columns, is_box_rows
from sensorium.data.tables.deeplabcut import is_deeplabcut, read_deeplabcut
from sensorium.data.tables.text_encoding import AddNote, is_escaped, lines, read_text, text

CELL_LIMIT = 64 * 2**20
"""Most characters in a cell. More indicates an unclosed quote, or media that belong in files of their own."""
CHUNK = 4096
DELIMITERS = ",;\t|"
RARE = "^~\x01\x1f"
"""Delimiters of database exports, accepted only where all records agree."""

_HEAD = 2**20
_SEP = re.compile(r'"?sep=([^"\r\n])"?[;,]*(\r\n|\n|\r|$)', re.IGNORECASE)


def read_delimited(path: Path, delimiter: str | None, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Read a delimited file as columns of text cells.

    Args:
        path: The file.
        delimiter: The delimiter; None takes the one of a leading ``sep=;`` line, else detects it.
        add_note: Receives notes, such as a fallback encoding.
    """
    separator, has_sep_line = _delimiter(path, delimiter)

    def parse(file: TextIO) -> dict[str, list[Any]]:
        with _large_cells():
            return _read(path, lines(file, path), separator, has_sep_line, add_note)

    return read_text(path, parse, add_note, lambda: _undecodable(path, separator, has_sep_line))


@contextmanager
def _large_cells() -> Iterator[None]:
    before = csv.field_size_limit(CELL_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(path: Path, requested: str | None) -> tuple[str, bool]:
    """The delimiter, and whether the first line only declares it (``sep=;``)."""
    with text(path, errors="surrogateescape") as file:
        # Undecodable text is reported when the whole file is read; here it must not hide the delimiter.
        try:
            head = file.read(_HEAD)
        except UnicodeDecodeError:
            return requested or ",", False
    first = _SEP.match(head.removeprefix("\ufeff"))
    if first is not None:
        return requested or first[1], True
    return requested or _sniff(head, len(head) == _HEAD), False


def _sniff(head: str, cut: bool) -> str:
    """The delimiter that splits most first records into as many cells as the header; of equals the one with most cells."""
    best, chosen = (0.0, 1), ","
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
                best, chosen = score, delimiter
    return chosen


def _records(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """The header and rows. An empty line is skipped, but in a table of one column it is a row with an empty cell."""
    header = next((record for record in reader if record), None)
    if header is None:
        return
    yield header
    for record in reader:
        if record:
            yield record
        elif len(header) == 1:
            yield [""]


def _read(path: Path, source: Iterator[str], delimiter: str, has_sep_line: bool, add_note: AddNote) -> dict[str, list[Any]]:
    reader = csv.reader(islice(source, int(has_sep_line), None), delimiter=delimiter, strict=True)
    row = 0
    try:
        records = _records(reader)
        header = next(records, None)
        if header is None:
            raise DataError("the file is empty", file=path, fix="the first line must name the columns")
        if is_deeplabcut(header):
            return read_deeplabcut(header, records, path, add_note)
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
            fix="a quote was opened and never closed, or the cell should be a separate file"
            if large
            else 'check the quotes: a quote within a quoted cell is written twice ("")',
        ) from None
    table = dict(zip(names, columns, strict=True))
    return box_columns(table, path, add_note) if is_box_rows(table) else table


def _append(columns: list[list[Any]], chunk: list[list[str]], shared: list[dict[str, str]]) -> None:
    for column, known, cells in zip(columns, shared, zip(*chunk, strict=True), strict=False):
        for cell in cells:
            # Equal short cells share one object, so that a category column costs a pointer a row.
            if len(cell) <= 32 and (cell in known or len(known) < CHUNK):
                column.append(known.setdefault(cell, cell))
            else:
                column.append(cell)


def column_names(header: Sequence[str], path: Path | str) -> list[str]:
    """Return the stripped names of a ``header``; a column without a name (an exported index) is ``unnamed 1``.

    Raises ``DataError``, naming the file ``path``, for a name that occurs twice.
    """
    names = [name.strip() or f"unnamed {i}" for i, name in enumerate(header, 1)]
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise DataError(f"columns named twice: {', '.join(twice)}", file=path, fix="give every column a different name")
    return names


def _undecodable(path: Path, delimiter: str, has_sep_line: bool) -> DataError:
    """An error that names the row and column of the first bytes that are not UTF-8."""
    fix = "save it as UTF-8 ('CSV UTF-8' in a spreadsheet), or: iconv -f gb18030 -t utf-8 (for Western text -f cp1252)"
    row, column = 0, None
    # Decode again with bad bytes as lone surrogates, to find the cell.
    with text(path, errors="surrogateescape") as file, _large_cells():
        try:
            reader = csv.reader(islice(lines(file, path), int(has_sep_line), None), delimiter=delimiter)
            header: list[str] = []
            for row, record in enumerate(_records(reader)):
                header = header or record
                bad = [i for i, cell in enumerate(record) if any(map(is_escaped, cell))]
                if bad:
                    column = header[bad[0]] if row and bad[0] < len(header) else None
                    break
        except (csv.Error, UnicodeDecodeError):
            pass  # report the row reached so far
    where = "" if row else " in the header"
    return DataError(f"not UTF-8 text{where}", file=path, row=row or None, column=column, fix=fix)

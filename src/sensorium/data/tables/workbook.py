"""Reader of Excel workbooks (``.xlsx``): the first sheet that is not empty. Needs ``sensorium[excel]``."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError, MissingExtraError, reason
from sensorium.core.plurals import counted
from sensorium.data.tables.compressed import EXPANDED, RATIO, SMALL
from sensorium.data.tables.delimited import column_names
from sensorium.data.tables.text_encoding import AddNote

CELLS = 2**28
"""Most cells of a sheet, empty ones included; more indicates a sheet formatted to its end."""

_FAILED = frozenset({"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#SPILL!", "#CALC!"})


def read_workbook(path: Path, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Read the first non-empty sheet of a workbook as columns; its first filled row names them.

    Cells are numbers, text, booleans and dates; formulas give their saved values. Trailing empty rows are dropped.

    Args:
        path: The workbook.
        add_note: Receives notes on other sheets and failed formulas.
    """
    try:
        import openpyxl
    except ImportError:
        raise MissingExtraError("reading .xlsx files", "excel") from None
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > min(EXPANDED, max(SMALL, RATIO * path.stat().st_size)):
            fix = "save the sheet as CSV, if it is meant to be so large"
            raise DataError("expands to far more than is plausible for a workbook of its size", file=path, fix=fix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and validations
            book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
            try:
                return _read(book, path, add_note)
            finally:
                book.close()
    except DataError:
        raise
    except zipfile.BadZipFile:
        fix = "open it in a spreadsheet and save it as .xlsx or CSV"
        raise DataError("not an .xlsx workbook", file=path, fix=fix) from None
    except Exception as error:  # a foreign or damaged workbook can raise anything in the parser
        fix = "open it in a spreadsheet and save it again, or as CSV"
        raise DataError(f"the workbook cannot be read ({reason(error)})", file=path, fix=fix) from None


def _read(book: Any, path: Path, add_note: AddNote) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {}
    read, others = "", []
    for sheet in book.worksheets:
        if read:
            others.append(sheet.title)
        elif columns := _sheet(sheet, path, add_note):
            table, read = columns, sheet.title
    if not read:
        raise DataError("every sheet is empty", file=path, fix="the first row must name the columns")
    if others:
        add_note(
            f"{path}: the sheet {read!r} is read, and not {', '.join(map(repr, others))}: save another as a file of its own"
        )
    return table


def _sheet(sheet: Any, path: Path, add_note: AddNote) -> dict[str, list[Any]]:
    rows = _rows(sheet, path)
    header = next(rows, None)
    if header is None:
        return {}
    width = max(i for i, name in enumerate(header, 1) if name is not None)
    columns: list[list[Any]] = [[] for _ in range(width)]
    blank, count, failed = 0, 0, 0
    for row in rows:
        values = list(row[:width]) + [None] * (width - len(row))
        if any(value is not None for value in row[width:]):
            fix = "name every column in the first row"
            raise DataError(f"a cell lies beyond the {width} named columns", file=path, row=count + blank + 1, fix=fix)
        if all(value is None for value in values):
            blank += 1
            continue
        for _ in range(blank):  # empty rows count only between filled ones
            for column in columns:
                column.append(None)
        count, blank = count + blank + 1, 0
        for column, value in zip(columns, values, strict=True):
            is_error = isinstance(value, str) and value in _FAILED
            failed += is_error
            column.append(None if is_error else value)
    if failed:
        add_note(f"{path}: {counted(failed, 'cell holds', 'cells hold')} an error such as #DIV/0!, taken as missing")
    names = column_names(["" if name is None else str(name) for name in header[:width]], path)
    return dict(zip(names, columns, strict=True))


def _rows(sheet: Any, path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield the rows, starting with the first that is not empty."""
    if hasattr(sheet, "reset_dimensions"):
        sheet.reset_dimensions()  # the size recorded in a sheet may be wrong
    count, started = 0, False
    for row in sheet.iter_rows(values_only=True):
        count += max(len(row), 1)
        if count > CELLS:
            raise DataError(f"sheet {sheet.title!r} has more than {CELLS} cells", file=path, fix="save it as CSV")
        started = started or any(value is not None for value in row)
        if started:
            yield row

"""Readers of JSON tables: one object per line, or one document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from sensorium.core.errors import DataError
from sensorium.data.tables.annotated_columns import AnnotatedColumns
from sensorium.data.tables.coco import coco_columns, is_coco
from sensorium.data.tables.coco_keypoints import is_coco_keypoints, read_coco_keypoints
from sensorium.data.tables.conversations import spread
from sensorium.data.tables.surrogates import ESCAPED, mend
from sensorium.data.tables.text_encoding import AddNote, is_escaped, lines, read_text, text

DOCUMENT_LIMIT = 2**30
"""Most characters of a document, which is read at once; files with one object per line have no such limit."""
SHAPES = 'write [{"column": cell, ...}, ...], {"column": [cell, ...], ...}, or one object per line (.jsonl)'
_LISTS = ("data", "records", "rows", "items", "examples", "results")


def read_jsonl(path: Path, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Read a file with one JSON object per line as columns; a key that a line lacks is a missing cell.

    Args:
        path: The file.
        add_note: Receives notes, such as a fallback encoding.
    """
    has_surrogates = False

    def parse(file: TextIO) -> dict[str, list[Any]]:
        def records() -> Iterable[Any]:
            nonlocal has_surrogates
            row = 0
            for line in lines(file, path):
                line = line.removeprefix("\ufeff") if row == 0 else line
                if not line.strip():
                    continue
                row += 1
                has_surrogates = has_surrogates or ESCAPED.search(line) is not None
                try:
                    yield json.loads(line, object_pairs_hook=_unique_keys)
                except (ValueError, RecursionError) as error:
                    fix = "each line is one whole JSON object; name a pretty-printed file .json"
                    raise DataError(f"not JSON: {error}", file=path, row=row, fix=fix) from None

        return from_records(records(), path)

    columns = spread(read_text(path, parse, add_note, lambda: _undecodable(path)), path, add_note)
    return mend(columns, str(path), add_note) if has_surrogates else columns


def read_json(path: Path, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Read a JSON document as columns: a list of objects, an object of columns, or the layouts that pandas writes.

    Args:
        path: The file; one object per line is read too.
        add_note: Receives notes, such as a fallback encoding.
    """

    def read(file: TextIO) -> str:
        # Line by line, so that zero bytes and endless lines are refused before parsing.
        parts, size = [], 0
        for line in lines(file, path):
            size += len(line)
            if size > DOCUMENT_LIMIT:
                problem = f"a JSON document of more than {DOCUMENT_LIMIT // 2**20} million characters"
                raise DataError(problem, file=path, fix="write one object per line (.jsonl)")
            parts.append(line)
        return "".join(parts).removeprefix("\ufeff")

    content = read_text(path, read, add_note, lambda: DataError("not UTF-8 text", file=path, fix="save the file as UTF-8"))
    try:
        document = json.loads(content, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and content.lstrip()[:1] == "{":
            return read_jsonl(path, add_note)  # one object per line, in a file named .json
        raise DataError(f"not JSON: {error}", file=path, fix=SHAPES) from None
    except ValueError as error:
        raise DataError(
            f"not usable JSON: {error}", file=path, fix="give every key of an object a name of its own"
        ) from None
    except RecursionError:
        raise DataError("JSON nested too deeply", file=path, fix=SHAPES) from None
    columns = spread(_from_document(document, path, add_note), path, add_note)
    if not ESCAPED.search(content):
        return columns
    mended = mend(columns, str(path), add_note)
    return AnnotatedColumns(mended, columns.annotations) if isinstance(columns, AnnotatedColumns) else mended


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its key-value pairs.

    Raises ``ValueError`` for a repeated key, of which ``json`` would keep the last.
    """
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"the key {twice!r:.80} occurs twice in an object")
    return document


def _from_document(document: Any, path: Path, add_note: AddNote) -> dict[str, list[Any]]:
    if isinstance(document, list):
        return from_records(document, path)
    if not isinstance(document, dict) or not document:
        raise DataError(f"a JSON {type(document).__name__} is not a table", file=path, fix=SHAPES)
    if is_coco_keypoints(document):
        return read_coco_keypoints(document, path, add_note)
    if is_coco(document):
        return coco_columns(document, path, add_note)
    names, data = document.get("columns"), document.get("data")
    if isinstance(names, list) and isinstance(data, list) and set(document) <= {"columns", "index", "data"}:
        # As pandas writes it with orient="split".
        if not all(isinstance(row, list) and len(row) == len(names) for row in data):
            raise DataError(f"not every row of data has {len(names)} cells", file=path, fix=SHAPES)
        return from_records(({str(n): cell for n, cell in zip(names, row, strict=True)} for row in data), path)
    lists = {name: cells for name, cells in document.items() if isinstance(cells, list)}
    wrapped = [name for name in lists if name in _LISTS and lists[name] and isinstance(lists[name][0], dict)]
    if len(wrapped) == 1 and (len(lists) == 1 or "schema" in document):
        return from_records(lists[wrapped[0]], path)
    if len(lists) == len(document):
        lengths = {name: len(cells) for name, cells in lists.items()}
        if len(set(lengths.values())) > 1:
            if "images" in lists and len(lacking := {"annotations", "categories"} - set(lists)) == 1:
                (key,) = lacking
                raise DataError(f"annotations in the form of COCO without {key!r}", file=path, fix=f"add {key!r}, a list")
            sizes = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise DataError(f"the columns differ in length: {sizes}", file=path, fix=SHAPES)
        return dict(lists)
    if all(isinstance(part, dict) for part in document.values()):
        if all(key.lstrip("-").isdigit() for key in document):  # rows by number: orient="index"
            return from_records(document.values(), path)
        keys = list(dict.fromkeys(key for part in document.values() for key in part))  # columns: orient="columns"
        return {name: [part.get(key) for key in keys] for name, part in document.items()}
    return from_records([document], path)


def _undecodable(path: Path) -> DataError:
    row = 0
    with text(path, errors="surrogateescape") as file:
        for line in lines(file, path):
            row += bool(line.strip())
            if any(map(is_escaped, line)):
                break
    return DataError("not UTF-8 text", file=path, row=row, fix="save the file as UTF-8")


def from_records(records: Iterable[Any], source: Path | str) -> dict[str, list[Any]]:
    """Return rows as columns, in the order in which names first appear; absent cells are None.

    Args:
        records: A mapping of column to cell for each row.
        source: What messages call the table.
    """
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
            # Earlier rows lack this column.
            if len(cells) < row - 1:
                cells.extend([None] * (row - 1 - len(cells)))
            cells.append(cell)
    for cells in columns.values():
        cells.extend([None] * (row - len(cells)))
    return columns

"""Parse a request body (JSON or multipart) to rows, and check each cell before it is decoded."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from fastapi import Request

from sensorium.core.errors import nearest
from sensorium.core.modality import Blob, is_blank
from sensorium.data.files.media_access import FILE_NAME_REFUSED
from sensorium.predictor import Prediction
from sensorium.serve.http_errors import CLOSE, RequestError
from sensorium.serve.limits import Limits
from sensorium.serve.long_tables import CutTable, cut_table
from sensorium.serve.model_service import ModelService
from sensorium.serve.multipart import parts

ROWS = "@rows"
"""The name of the multipart field that contains several rows as JSON."""
_JSON = re.compile(rb"\s*[\[{]")


@dataclass(frozen=True)
class ParsedRequest:
    """The rows of a request.

    Args:
        rows: The rows, with media as bytes.
        single: Whether the request has a single row instead of a list.
        cut: The windows that the rows are, of a long table.
    """

    rows: list[dict[str, Any]]
    single: bool
    cut: CutTable | None = None

    def answered(self, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
        """Return the ``predictions`` for the rows as JSON."""
        if self.cut is not None:
            return self.cut.answered(predictions)
        return [prediction.to_json() for prediction in predictions]


async def parse_request(request: Request, service: ModelService) -> ParsedRequest:
    """Return the rows of ``request`` for the model ``service``.

    Raises:
        RequestError: The request is invalid; the message names the row and the column.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "compressed bodies are not supported", fix="send the body uncompressed", headers=CLOSE)
    if kind == "application/json":
        body = await request.body()
        document = parse_json(body, service.limits)
        if isinstance(document, dict) and "table" in document:  # thousands of rows: other requests go on meanwhile
            return await asyncio.to_thread(_rows, document, service, {})
        return _rows(document, service, {})
    if kind == "multipart/form-data":
        return await _multipart(request, service)
    fix = "send application/json or multipart/form-data (curl -F column=value -F column=@file)"
    problem = f"the content type {_safe(kind)} is not supported" if kind else "the request has no Content-Type"
    raise RequestError(415, problem, fix=fix, headers=CLOSE)


def parse_json(body: bytes | str, limits: Limits) -> Any:
    """Parse ``body`` as JSON.

    Values are counted first, since a few bytes of JSON can need many times as much memory.

    Raises:
        RequestError: The body is not JSON, or has more values than ``limits`` allow.
    """
    if _values(body.encode(errors="replace") if isinstance(body, str) else body) > limits.values:
        raise RequestError(
            413, f"more than {limits.values} values in one JSON document", fix="send fewer values, or a file"
        )

    def reject_constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            names = Counter(name for name, _ in pairs)
            raise ValueError(f"the key {_safe(names.most_common(1)[0][0])!r} occurs twice in one object")
        return mapping

    try:
        document = json.loads(body, parse_constant=reject_constant, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else _reason(error)
        raise RequestError(400, f"the body is not JSON: {reason}") from None
    return document


def _values(data: bytes) -> int:
    """Return an upper bound on the number of values of a JSON document: each but the first follows one of these marks."""
    return sum(data.count(mark) for mark in (b"[", b"{", b","))


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)[:80]


def _rows(document: Any, service: ModelService, files: Mapping[str, list[Any]]) -> ParsedRequest:
    fix = 'send {"row": {...}} or {"rows": [{...}, ...]}'
    if isinstance(document, dict) and set(document) == {"table"}:
        cut = cut_table(document["table"], service.predictor.artifact.recipe.data.windows, service.limits)
        return ParsedRequest([parse_row(row, service, i, files) for i, row in enumerate(cut.rows, 1)], False, cut)
    if not isinstance(document, dict) or set(document) not in ({"row"}, {"rows"}):
        raise RequestError(422, "a request must contain either row or rows, and nothing else", fix=fix)
    single = "row" in document
    rows = [document["row"]] if single else document["rows"]
    if not isinstance(rows, list):
        raise RequestError(422, "rows must be a list", fix=fix)
    if len(rows) > service.limits.rows:
        raise RequestError(
            413,
            f"{len(rows)} rows in one request, more than the allowed {service.limits.rows}",
            fix="send fewer rows per request",
        )
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise RequestError(422, "a row must be an object that maps columns to cells", row=i, fix=fix)
    return ParsedRequest([parse_row(row, service, i, files) for i, row in enumerate(rows, 1)], single)


def parse_row(
    row: Mapping[str, Any], service: ModelService, number: int = 1, files: Mapping[str, list[Any]] | None = None
) -> dict[str, Any]:
    """Return a row of a JSON document in the form that the model reads: known columns only, media as bytes.

    Args:
        row: The row as parsed.
        service: The model.
        number: The number of the row in its request, for messages.
        files: The files of a multipart request by part name.

    Raises:
        RequestError: A column is unknown or a cell is invalid.
    """
    cells = {}
    for name, cell in row.items():
        if name not in service.columns:
            if service.is_ignored(name):
                continue
            fix = "leave it out; /schema lists the columns"
            raise RequestError(422, f"no column {_safe(name)!r}{nearest(name, service.columns)}", row=number, fix=fix)
        try:
            cells[name] = _cell(cell, service, name, files or {})
        except RequestError as error:
            error.details |= {"row": number, "column": name}
            raise
    return cells


def _cell(cell: Any, service: ModelService, name: str, files: Mapping[str, list[Any]]) -> Any:
    reader = service.columns[name].reader
    if isinstance(cell, (Blob, bytes)):
        return cell
    if isinstance(cell, str) and not (reader.media and cell.startswith("data:")):
        if len(cell) > service.limits.text:
            raise RequestError(413, f"a text of {len(cell)} characters, more than the allowed {service.limits.text}")
        check_surrogates(cell)
    if not reader.media:
        return _plain(cell)
    if isinstance(cell, list) and reader.several:
        return [_media(part, service, files) for part in cell if not is_blank(part)] or None
    return _media(cell, service, files)


def _plain(cell: Any) -> Any:
    if isinstance(cell, Mapping) or (isinstance(cell, list) and not all(isinstance(part, (str, int)) for part in cell)):
        raise RequestError(422, "this column needs a text, a number or a list of texts", fix="see /schema")
    if isinstance(cell, list):
        for part in cell:
            if isinstance(part, str):
                check_surrogates(part)
    return cell


def _media(cell: Any, service: ModelService, files: Mapping[str, list[Any]]) -> Any:
    if isinstance(cell, str) and cell.startswith("data:"):
        head, comma, content = cell.partition(",")
        if not comma or not head.endswith(";base64"):
            raise RequestError(422, "the data URL is not base64", fix="data:image/png;base64,...")
        return Blob(_bytes(content, service.limits), "<upload>")
    if not isinstance(cell, Mapping):
        return cell
    if "part" in cell:
        sent = files.get(str(cell["part"]))
        if sent is None:
            raise RequestError(422, f"no part named {_safe(str(cell['part']))!r} in the request")
        return sent[0]
    if "base64" in cell:
        if not isinstance(cell["base64"], str):
            raise RequestError(422, "base64 must be a text")
        name = cell.get("name")
        return Blob(_bytes(cell["base64"], service.limits), _file_name(str(name)[:1000] if name else None))
    if {"path", "bytes", "url"} & set(cell):
        fix = 'send the content: {"base64": "..."}, or a file in a multipart request'
        raise RequestError(422, FILE_NAME_REFUSED, fix=fix)
    return dict(cell)


def _bytes(text: str, limits: Limits) -> bytes:
    if len(text) > limits.file * 4 // 3 + 4:
        raise RequestError(413, f"a file of more than the allowed {limits.file / 2**20:g} MiB")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(
            422, "the content is not valid base64", fix="encode all bytes, with padding and without line breaks"
        ) from None
    _check_json_size(data, limits)
    return data


def _check_json_size(data: bytes, limits: Limits) -> None:
    """Apply the limit on JSON values to files too."""
    if _JSON.match(data) and _values(data) > limits.values:
        raise RequestError(413, f"more than {limits.values} values in one file")


async def _multipart(request: Request, service: ModelService) -> ParsedRequest:
    limits = service.limits
    files: dict[str, list[Any]] = {}
    for name, file, data in parts(await request.body(), request.headers["content-type"], limits.parts):
        if not data and not file:
            # Browsers send this for an empty field.
            if file is None:
                files.setdefault(name, []).append("")
            continue
        if file is None:
            files.setdefault(name, []).append(_field(name, data))
            continue
        if len(data) > limits.file:
            problem = f"a file of {len(data) / 2**20:.1f} MiB, more than the allowed {limits.file / 2**20:g}"
            raise RequestError(413, problem, column=_safe(name))
        _check_json_size(data, limits)
        files.setdefault(name, []).append(Blob(data, _file_name(file)))
    if ROWS in files:
        field = files[ROWS][0]
        document = parse_json(field.data if isinstance(field, Blob) else field, limits)
        return _rows({"rows": document}, service, files)
    return ParsedRequest([parse_row({name: _joined(name, sent, service) for name, sent in files.items()}, service)], True)


def _field(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RequestError(422, "the text is not in UTF-8", column=_safe(name)) from None


def _joined(name: str, sent: list[Any], service: ModelService) -> Any:
    """Join the parts of one name to a cell."""
    column = service.columns.get(name)
    if column is None:
        return None
    if column.reader.several:
        return [part for part in sent if not is_blank(part)] or None
    if len(sent) > 1:
        raise RequestError(422, f"{len(sent)} parts for one cell, which takes one", column=name)
    if isinstance(sent[0], Blob) and not column.reader.media:
        try:
            return sent[0].data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise RequestError(422, "the file is not text in UTF-8", column=name) from None
    return sent[0]


def check_surrogates(text: str) -> None:
    """Raise ``RequestError`` where ``text`` has half a character, which no tokeniser can read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(422, "the text has a lone surrogate (half a character)") from None


@lru_cache(256)
def _file_name(name: str | None) -> str:
    """Return the file name without folders, for messages and for its suffix."""
    return _safe(PurePosixPath(name.replace("\\", "/")).name) or "<upload>" if name else "<upload>"


def _safe(text: str) -> str:
    """Return text from a client for use in a message: short, with printable characters only."""
    return "".join(mark if mark.isprintable() else "?" for mark in text[:80])

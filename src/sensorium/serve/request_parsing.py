"""A request's body to rows: JSON or parts, each cell looked at before anything decodes it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from fastapi import Request

from sensorium.core.errors import nearest
from sensorium.core.modality import Blob, is_blank
from sensorium.serve.http_errors import CLOSE, RefusedError
from sensorium.serve.limits import Limits
from sensorium.serve.model_service import Served
from sensorium.serve.multipart import parts

ROWS = "@rows"
"""The part of a multipart request that holds several rows, as JSON."""
_JSON = re.compile(rb"\s*[\[{]")


@dataclass(frozen=True)
class Asked:
    """The rows of a request, and whether it was a single one."""

    rows: list[dict[str, Any]]
    single: bool


async def read(request: Request, served: Served) -> Asked:
    """The rows of a request. Raises ``RefusedError`` with what is wrong, and where."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(415, "a compressed body is not read", fix="send it as it is", headers=CLOSE)
    if kind == "application/json":
        body = await request.body()
        document = document_of(body, served.limits)
        return _asked(document, served, {})
    if kind == "multipart/form-data":
        return await _parts(request, served)
    fix = "send application/json or multipart/form-data (curl -F column=value -F column=@file)"
    problem = f"{_safe(kind)} is not read here" if kind else "the request does not say what it holds (Content-Type)"
    raise RefusedError(415, problem, fix=fix, headers=CLOSE)


def document_of(body: bytes | str, limits: Limits) -> Any:
    """A JSON document, counted before it is built: a few bytes of it can stand for many times as much memory."""
    if _values(body.encode(errors="replace") if isinstance(body, str) else body) > limits.values:
        raise RefusedError(413, f"more than {limits.values} values in one document", fix="send fewer, or as a file")

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = Counter(name for name, _ in pairs)
            raise ValueError(f"the key {_safe(names.most_common(1)[0][0])!r} stands twice in one object")
        return found

    try:
        document = json.loads(body, parse_constant=constant, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else _reason(error)
        raise RefusedError(400, f"the body is not JSON: {reason}") from None
    return document


def _values(data: bytes) -> int:
    """How many values a JSON document has, at most: each but the first follows one of these marks."""
    return sum(data.count(mark) for mark in (b"[", b"{", b","))


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)[:80]


def _asked(document: Any, served: Served, files: Mapping[str, list[Any]]) -> Asked:
    fix = 'send {"row": {...}} or {"rows": [{...}, ...]}'
    if not isinstance(document, dict) or set(document) not in ({"row"}, {"rows"}):
        raise RefusedError(422, "a request has a row or rows, and nothing else", fix=fix)
    single = "row" in document
    rows = [document["row"]] if single else document["rows"]
    if not isinstance(rows, list):
        raise RefusedError(422, "rows are a list", fix=fix)
    if len(rows) > served.limits.rows:
        raise RefusedError(
            413, f"{len(rows)} rows in one request, more than {served.limits.rows}", fix="send fewer at a time"
        )
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise RefusedError(422, "a row is an object: column to cell", row=i, fix=fix)
    return Asked([row_of(row, served, i, files) for i, row in enumerate(rows, 1)], single)


def row_of(
    row: Mapping[str, Any], served: Served, number: int = 1, files: Mapping[str, list[Any]] | None = None
) -> dict[str, Any]:
    """A row of plain JSON as the model reads it: known columns only, media as bytes."""
    found = {}
    for name, cell in row.items():
        if name not in served.asked:
            if served.ignored(name):
                continue
            fix = "leave it out: what the model reads is told by /schema"
            raise RefusedError(422, f"no column {_safe(name)!r}{nearest(name, served.asked)}", row=number, fix=fix)
        try:
            found[name] = _cell(cell, served, name, files or {})
        except RefusedError as refused:
            refused.said |= {"row": number, "column": name}
            raise
    return found


def _cell(cell: Any, served: Served, name: str, files: Mapping[str, list[Any]]) -> Any:
    reader = served.asked[name].reader
    if isinstance(cell, (Blob, bytes)):
        return cell
    if isinstance(cell, str) and not (reader.media and cell.startswith("data:")):
        if len(cell) > served.limits.text:
            raise RefusedError(413, f"{len(cell)} characters are more than {served.limits.text}")
        _whole(cell)
    if not reader.media:
        return _plain(cell)
    if isinstance(cell, list) and reader.several:
        return [_media(part, served, files) for part in cell if not is_blank(part)] or None
    return _media(cell, served, files)


def _plain(cell: Any) -> Any:
    if isinstance(cell, Mapping) or (isinstance(cell, list) and not all(isinstance(part, (str, int)) for part in cell)):
        raise RefusedError(422, "this column takes a text, a number or a list of texts", fix="see /schema")
    if isinstance(cell, list):
        for part in cell:
            if isinstance(part, str):
                _whole(part)
    return cell


def _media(cell: Any, served: Served, files: Mapping[str, list[Any]]) -> Any:
    if isinstance(cell, str) and cell.startswith("data:"):
        head, comma, content = cell.partition(",")
        if not comma or not head.endswith(";base64"):
            raise RefusedError(422, "an address of data that is not base64", fix="data:image/png;base64,...")
        return Blob(_bytes(content, served.limits), "<upload>")
    if not isinstance(cell, Mapping):
        return cell
    if "part" in cell:
        sent = files.get(str(cell["part"]))
        if sent is None:
            raise RefusedError(422, f"no part named {_safe(str(cell['part']))!r} in the request")
        return sent[0]
    if "base64" in cell:
        if not isinstance(cell["base64"], str):
            raise RefusedError(422, "base64 is a text")
        name = cell.get("name")
        return Blob(_bytes(cell["base64"], served.limits), _file_name(str(name)[:1000] if name else None))
    if {"path", "bytes", "url"} & set(cell):
        fix = 'send the content itself: {"base64": "..."}, or a file in a multipart request'
        raise RefusedError(422, "a file may not be named here", fix=fix)
    return dict(cell)


def _bytes(text: str, limits: Limits) -> bytes:
    if len(text) > limits.file * 4 // 3 + 4:
        raise RefusedError(413, f"a file of more than {limits.file / 2**20:g} MiB")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(422, "this is not base64", fix="encode all bytes, with padding, without line breaks") from None
    _counted(data, limits)
    return data


def _counted(data: bytes, limits: Limits) -> None:
    """A file that is JSON is bounded as a body of JSON is."""
    if _JSON.match(data) and _values(data) > limits.values:
        raise RefusedError(413, f"more than {limits.values} values in one file")


async def _parts(request: Request, served: Served) -> Asked:
    limits = served.limits
    files: dict[str, list[Any]] = {}
    for name, file, data in parts(await request.body(), request.headers["content-type"], limits.parts):
        if not data and not file:
            # What a browser sends for a field that was left empty.
            if file is None:
                files.setdefault(name, []).append("")
            continue
        if file is None:
            files.setdefault(name, []).append(_field(name, data))
            continue
        if len(data) > limits.file:
            problem = f"a file of {len(data) / 2**20:.1f} MiB, more than {limits.file / 2**20:g}"
            raise RefusedError(413, problem, column=_safe(name))
        _counted(data, limits)
        files.setdefault(name, []).append(Blob(data, _file_name(file)))
    if ROWS in files:
        told = files[ROWS][0]
        document = document_of(told.data if isinstance(told, Blob) else told, limits)
        return _asked({"rows": document}, served, files)
    return Asked([row_of({name: _joined(name, sent, served) for name, sent in files.items()}, served)], True)


def _field(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RefusedError(422, "the text is not in UTF-8", column=_safe(name)) from None


def _joined(name: str, sent: list[Any], served: Served) -> Any:
    """The parts of one name as one cell."""
    column = served.asked.get(name)
    if column is None:
        return None
    if column.reader.several:
        return [part for part in sent if not is_blank(part)] or None
    if len(sent) > 1:
        raise RefusedError(422, f"{len(sent)} parts for one cell", column=name)
    if isinstance(sent[0], Blob) and not column.reader.media:
        try:
            return sent[0].data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise RefusedError(422, "the file is not text in UTF-8", column=name) from None
    return sent[0]


def _whole(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RefusedError(422, "the text has half a character (a lone surrogate)") from None


@lru_cache(256)
def _file_name(name: str | None) -> str:
    """The last part of the name a file came under, for messages and for its ending alone."""
    return _safe(PurePosixPath(name.replace("\\", "/")).name) or "<upload>" if name else "<upload>"


def _safe(text: str) -> str:
    """A client's own words in a message: short, and only what can be printed."""
    return "".join(mark if mark.isprintable() else "?" for mark in text[:80])

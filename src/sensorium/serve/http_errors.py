"""Error responses: what is wrong with a request and how to fix it, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import Response

from sensorium.core.schema import Problem
from sensorium.data.files.media_access import FILE_NAME_REFUSED

RETRY_AFTER = {"Retry-After": "1"}
CLOSE = {"Connection": "close"}
"""For a request that was not read to its end: the connection is closed instead of waiting for the rest."""


class RequestError(Exception):
    """A request that gets an error response.

    Args:
        status: The HTTP status, 400 or above.
        problem: What is wrong, in one sentence.
        fix: What to do about it.
        row: The row of the request, counted from 1.
        column: The column.
        cells: All cells at fault, if there may be several.
        headers: Additional response headers.
    """

    def __init__(
        self,
        status: int,
        problem: str,
        *,
        fix: str | None = None,
        row: int | None = None,
        column: str | None = None,
        cells: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(problem)
        self.status, self.headers = status, dict(headers or {})
        self.details: dict[str, Any] = {"status": status, "problem": problem}
        optional = {"fix": fix, "row": row, "column": column}
        self.details |= {key: value for key, value in optional.items() if value is not None}
        if cells:
            self.details["cells"] = [
                {"row": c.row, "column": c.column, "problem": c.problem, "file": c.file, "fix": c.fix} for c in cells
            ]

    def response(self) -> Response:
        """Return the error as a JSON response."""
        return json_response({"error": self.details}, self.status, self.headers)


def unreadable_cells(problems: Sequence[Problem]) -> RequestError:
    """Return the error for cells that cannot be read: the first of ``problems`` is the message, all are listed."""
    first = problems[0]
    fix = "fix or leave out these cells, or add ?bad=missing to treat them as missing"
    if first.problem == FILE_NAME_REFUSED:
        fix = 'send its content: in a multipart request (curl -F column=@file), or as {"base64": "..."} in JSON'
    return RequestError(422, first.problem, fix=fix, row=first.row, column=first.column, cells=problems)


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``content`` as a JSON response with this ``status`` and additional ``headers``.

    Non-ASCII characters are escaped, since text from a client may contain lone surrogates.

    Raises:
        RequestError: The content has NaN or infinite numbers.
    """
    try:
        body = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except ValueError:
        fix = "check the request for extremely large numbers"
        raise RequestError(422, "what the model computed is not a number (NaN or infinite)", fix=fix) from None
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")

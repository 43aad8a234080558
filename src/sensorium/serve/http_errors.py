"""A clear no: what a client is told, as JSON, when a request cannot be answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import Response

from sensorium.core.schema import Problem
from sensorium.data.files.media_access import NAMED

AGAIN = {"Retry-After": "1"}
CLOSE = {"Connection": "close"}
"""For a request that was not read to its end: what is left of it is not waited for."""


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: 400, 401, 403, 404, 408, 413, 415, 421, 422, 429, 431 or 503.
        problem: What is wrong, in one sentence.
        fix: What to do about it.
        row: The row of the request, counted from 1.
        column: The column.
        cells: Every cell that is at fault, where there may be several.
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
        self.said: dict[str, Any] = {"status": status, "problem": problem}
        told = {"fix": fix, "row": row, "column": column}
        self.said |= {key: value for key, value in told.items() if value is not None}
        if cells:
            self.said["cells"] = [
                {"row": cell.row, "column": cell.column, "problem": cell.problem, "file": cell.file} for cell in cells
            ]

    def response(self) -> Response:
        """As it is sent."""
        return answer({"error": self.said}, self.status, self.headers)


def unusable(problems: Sequence[Problem]) -> RefusedError:
    """Cells that could not be read: the first in words, all of them listed."""
    first = problems[0]
    fix = "mend or leave out these cells, or add ?bad=missing to have them count as missing"
    if first.problem == NAMED:
        fix = 'send its content: in a multipart request (curl -F column=@file), or as {"base64": "..."} in JSON'
    return RefusedError(422, first.problem, fix=fix, row=first.row, column=first.column, cells=problems)


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON. Text from a client may hold half a character, which only escaped JSON can say."""
    try:
        body = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except ValueError:
        fix = "look for numbers beyond all measure in the request"
        raise RefusedError(422, "what the model computed is not a number (NaN or infinite)", fix=fix) from None
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")

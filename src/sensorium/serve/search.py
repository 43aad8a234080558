"""Search in an index over HTTP: queries, and the media of the rows in the results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response

from sensorium.core.errors import CellError, ConfigError, DataError
from sensorium.core.schema import Record, Sample
from sensorium.retrieval.hit import Hit
from sensorium.retrieval.index import Index
from sensorium.retrieval.shown_media import browser_type, media_columns, open_cell
from sensorium.serve.http_errors import RequestError
from sensorium.serve.model_service import ModelService
from sensorium.serve.request_parsing import ParsedRequest

MAX_HITS = 200
"""Maximum number of rows in the answer to one query."""
READERS = 4
"""Maximum number of media files that are read at a time."""
SEARCH: dict[str, Any] = {
    "type": "object",
    "required": ["hits"],
    "properties": {
        "hits": {
            "type": "array",
            "items": {"type": "object", "required": ["id", "score", "side", "cells"]},
        }
    },
}
"""The JSON Schema of the answer to a query."""


class SearchService:
    """An index that serves concurrent clients.

    Args:
        index: The index.
        service: Its model.
    """

    def __init__(self, index: Index, service: ModelService) -> None:
        self.index, self.service = index, service
        self._media = media_columns(index)
        self._readers = asyncio.Semaphore(READERS)

    def describe(self) -> dict[str, Any]:
        """Describe the index for clients."""
        try:
            words: str | None = self.index.text_column()
        except ConfigError:
            words = None
        return {
            "rows": len(self.index),
            "sides": list(self.index.sides),
            "columns": self.index.columns,
            "media": self._media,
            "query": self.index.query_columns,
            "words": words,
            "most": MAX_HITS,
        }

    async def search(self, request: Request, parsed: ParsedRequest, lenient: bool) -> Any:
        """Return the hits of each query of a request, with options from its query string.

        Args:
            request: The request: ``top``, ``filter``, ``among`` and ``row`` (a row of the index in place of a query).
            parsed: The queries.
            lenient: Whether unreadable cells count as missing.
        """
        options = _options(request)
        row = request.query_params.get("row")
        for number, query in enumerate(parsed.rows, 1):
            if row is not None and query:
                raise RequestError(422, "a search needs either a query or a row of the index", row=number)
            try:
                self.index.check_columns(query)
            except ConfigError as error:
                raise RequestError(422, error.problem, fix=error.fix, row=number) from None
        queries: list[Record] = [{}] if row is not None else list(parsed.rows)

        def answer(samples: list[Sample]) -> list[list[Hit]]:
            if row is not None:
                return [self.index.search(row=row, **options)]
            vectors, present = self.service.predictor.sides_of(samples, self.index.contents.task)
            return [self._hits(vectors[i].numpy(), present[i].numpy(), i + 1, options) for i in range(len(samples))]

        try:
            results = await self.service.compute(queries, lenient, answer)
        except (ConfigError, DataError) as error:
            raise RequestError(422, error.problem, column=getattr(error, "column", None), fix=error.fix) from None
        answers = [{"hits": [self._shown(hit) for hit in hits]} for hits in results]
        return answers[0] if parsed.single else {"answers": answers}

    def _hits(self, vectors: Any, present: Any, number: int, options: dict[str, Any]) -> list[Hit]:
        if not bool(present.any()):
            columns = ", ".join(self.index.query_columns)
            raise RequestError(422, "the query is empty", row=number, fix=f"fill in one of: {columns}")
        return self.index.search_vectors(vectors, present, **options)

    def _shown(self, hit: Hit) -> dict[str, Any]:
        """A hit as JSON. Media cells are addresses on this server, not names of its files."""
        cells = dict(hit.cells)
        for column in self._media:
            if cells.get(column) is not None:
                query = urlencode({"row": hit.id, "column": column})
                cells[column] = {"media": f"/models/{self.service.name}/media?{query}"}
        return {"id": hit.id, "score": hit.score, "side": hit.side, "cells": cells}

    async def media(self, request: Request) -> Response:
        """Return the file of the media cell that ``request`` names: ``?row=ID&column=NAME``."""
        row, column = (request.query_params.get(name, "") for name in ("row", "column"))

        def read() -> tuple[bytes, str | None]:
            blob = open_cell(self.index, row, column, max_bytes=self.service.limits.file)
            return blob.data, browser_type(blob.data)

        async with self._readers:
            try:
                data, kind = await asyncio.to_thread(read)
            except ConfigError as error:
                raise RequestError(404, error.problem) from None
            except CellError:  # its message names a file of this machine
                raise RequestError(404, "the file of this cell cannot be shown", column=column) from None
        if kind is None:
            raise RequestError(404, "the file of this cell is in no format that browsers show", column=column)
        return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=300"})


def _options(request: Request) -> dict[str, Any]:
    """The options of a search in the query string of ``request``."""
    top = request.query_params.get("top", "10")
    if not top.isascii() or not top.isdecimal() or not 1 <= int(top[:6]) <= MAX_HITS:
        raise RequestError(422, "top must be a number of rows", fix=f"1 to {MAX_HITS}")
    among = [name for name in request.query_params.get("among", "").split(",") if name]
    return {"top": int(top), "where": request.query_params.get("filter") or None, "among": among or None}


def find_index(searches: Mapping[str, SearchService], service: ModelService) -> SearchService:
    """Return the index of the model ``service`` among ``searches``. Raises ``RequestError`` if it has none."""
    if service.name not in searches:
        raise RequestError(404, f"the model {service.name} is served without an index", fix="sensorium serve INDEX")
    return searches[service.name]

"""``/stream``: a WebSocket that receives chunks and predicts windows, dropping old ones if it cannot keep up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import traceback
from collections import Counter, deque
from time import monotonic
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from sensorium.core.errors import SensoriumError
from sensorium.serve.api_key import ApiKey
from sensorium.serve.http_errors import RequestError
from sensorium.serve.limits import Limits
from sensorium.serve.metrics import Metrics
from sensorium.serve.model_service import ModelService, find_model
from sensorium.serve.request_parsing import parse_json, parse_row
from sensorium.streaming.joined_windows import Moment
from sensorium.streaming.live_labels import along
from sensorium.streaming.stream_session import Session, Setup

log = logging.getLogger("sensorium.serve")
BACKLOG = 2
"""Maximum number of windows in the queue: a longer queue would only delay every answer."""
_REFUSED = 1008
_BUSY = 1013
_INTERNAL_ERROR = 1011


class StreamEndpoint:
    """The WebSocket endpoint for live streams.

    Args:
        services: The models by name.
        limits: Limits on the number of streams and on the time between messages.
        key: The API key, if one is required.
        metrics: Counts windows.
    """

    def __init__(self, services: dict[str, ModelService], limits: Limits, key: ApiKey | None, metrics: Metrics) -> None:
        self.services, self.limits, self.key, self.metrics = services, limits, key, metrics
        self.open: Counter[str] = Counter()
        """Number of open streams by client address."""

    def add_to(self, app: FastAPI) -> None:
        """Add the route ``/stream`` to ``app``."""
        app.add_api_websocket_route("/stream", self.handle)

    async def handle(self, socket: WebSocket) -> None:
        """Handle one stream on ``socket``, from the first message to the summary."""
        await socket.accept()
        client = socket.client.host if socket.client else ""
        full = self.open.total() >= self.limits.streams
        if full or self.open[client] >= self.limits.streams_each:
            problem = f"{self.open.total()} streams are already open"
            if not full:
                problem = f"{self.open[client]} streams from your address are already open"
            await _refuse(socket, {"status": 503, "problem": problem}, _BUSY)
            return
        self.open[client] += 1
        try:
            await self._stream(socket)
        except WebSocketDisconnect:
            pass
        except RequestError as error:
            await _refuse(socket, error.details, _REFUSED)
        except SensoriumError as error:
            await _refuse(socket, {"status": 422, "problem": error.problem, "fix": error.fix}, _REFUSED)
        except TimeoutError:
            problem = f"no message arrived for {self.limits.upload:g} seconds"
            await _refuse(socket, {"status": 408, "problem": problem}, _REFUSED)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
            await _refuse(socket, {"status": 500, "problem": "internal server error"}, _INTERNAL_ERROR)
        finally:
            self.open[client] -= 1
            self.open += Counter()  # removes addresses without streams

    async def _stream(self, socket: WebSocket) -> None:
        first = await self._message(socket)
        settings = _parsed(first)
        candidate = settings.pop("key", "")
        key = self.key
        authorised = (
            key is None or key.authorises(socket.headers) or (isinstance(candidate, str) and key.matches(candidate))
        )
        if not authorised:
            raise RequestError(401, "an API key is required", fix='send {"key": ...} in the first message, or as a header')
        model = settings.pop("model", None)
        service = find_model(self.services, None if model is None else str(model))
        setup = Setup.from_json(settings)
        row = parse_row({name: cell for name, cell in setup.row.items() if name not in setup.rates}, service)
        labelled = along(service.predictor.model, setup.rates)
        session = Session(service.schema, Setup(**{**vars(setup), "row": row}), labelled)
        await socket.send_json(session.opening)
        queue = _WindowQueue(keep=setup.keep)
        answering = asyncio.create_task(self._answer(socket, service, session, queue))
        try:
            await self._read(socket, session, queue, answering, service)
            await answering
        finally:
            if not answering.done():
                answering.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await answering
        await socket.send_json({"summary": session.summary()})
        await socket.close()

    async def _read(
        self,
        socket: WebSocket,
        session: Session,
        queue: _WindowQueue,
        answering: asyncio.Task[None],
        service: ModelService,
    ) -> None:
        ended = False
        while not ended and not answering.done():
            message = await self._message(socket)
            if isinstance(message, bytes):
                windows = session.push(message)
            elif (settings := _parsed(message)) == {"end": True}:
                windows, ended = session.end(), True
            elif settings.keys() == {"row"} and isinstance(settings["row"], dict):
                cells = {name: cell for name, cell in settings["row"].items() if name not in session.setup.rates}
                session.update(parse_row(cells, service))
                continue
            else:
                expected = 'a chunk of bytes, {"row": {...}} or {"end": true}'
                raise RequestError(422, f"expected {expected} after the first message")
            arrived = monotonic()
            for window in windows:
                dropped = await queue.put((window, arrived, session.row(window)))
                session.counts.dropped += dropped
                self.metrics.windows.labels("dropped").inc(dropped)
        await queue.end()

    async def _answer(self, socket: WebSocket, service: ModelService, session: Session, queue: _WindowQueue) -> None:
        while (item := await queue.get()) is not None:
            window, arrived, row = item
            start = monotonic()
            try:
                (prediction,) = await service.predict([row], lenient=True)
            except RequestError as error:
                if error.status not in (429, 503):
                    raise
                session.counts.dropped += 1
                self.metrics.windows.labels("dropped").inc()
                continue
            now = monotonic()
            self.metrics.windows.labels("answered").inc()
            self.metrics.lag.observe(now - arrived)
            await socket.send_json(session.answer(window, prediction.to_json(), now - arrived, now - start))

    async def _message(self, socket: WebSocket) -> bytes | str:
        async with asyncio.timeout(self.limits.upload):
            message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        data = message.get("bytes")
        return data if data is not None else str(message.get("text", ""))


_Waiting = tuple[Moment, float, dict[str, Any]]
"""A window, when its last chunk arrived, and its row: the other cells are those of that moment."""


class _WindowQueue:
    """A short queue of windows between reading and predicting.

    Args:
        keep: Whether reading waits while the queue is full; otherwise the oldest window is dropped.
    """

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self._windows: deque[_Waiting] = deque()
        self._ended = False
        self._change = asyncio.Condition()

    async def put(self, item: _Waiting) -> int:
        """Add a window; return the number of windows dropped for it."""
        async with self._change:
            if self.keep:
                await self._change.wait_for(lambda: len(self._windows) < BACKLOG or self._ended)
            dropped = max(len(self._windows) + 1 - BACKLOG, 0)
            for _ in range(dropped):
                self._windows.popleft()
            self._windows.append(item)
            self._change.notify_all()
        return dropped

    async def get(self) -> _Waiting | None:
        """Return the next window; None at the end of the stream."""
        async with self._change:
            await self._change.wait_for(lambda: self._windows or self._ended)
            self._change.notify_all()
            return self._windows.popleft() if self._windows else None

    async def end(self) -> None:
        """Mark the end of the stream."""
        async with self._change:
            self._ended = True
            self._change.notify_all()


def _parsed(message: bytes | str) -> dict[str, Any]:
    if isinstance(message, bytes):
        raise RequestError(422, "the first message of a stream must be text: the settings as JSON")
    settings = parse_json(message, Limits(values=10_000))
    if not isinstance(settings, dict):
        raise RequestError(422, "a message must be a JSON object")
    return settings


async def _refuse(socket: WebSocket, details: dict[str, Any], code: int) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client may have disconnected
        await socket.send_text(json.dumps({"error": details}))
        await socket.close(code, str(details["problem"]).encode()[:120].decode(errors="ignore"))

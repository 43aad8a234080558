"""``/stream``: a WebSocket takes chunks and answers every window, the newest first where it cannot keep up."""

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
from sensorium.serve.api_key import Key
from sensorium.serve.http_errors import RefusedError
from sensorium.serve.limits import Limits
from sensorium.serve.metrics import Metrics
from sensorium.serve.model_service import Served, named
from sensorium.serve.request_parsing import document_of, row_of
from sensorium.streaming.stream_session import Session, Setup
from sensorium.streaming.windows import Window

log = logging.getLogger("sensorium.serve")
BACKLOG = 2
"""Windows that may wait for an answer: a longer queue would only make every answer old."""
_NO = 1008
_BUSY = 1013
_BROKEN = 1011


class Live:
    """The streams of a server."""

    def __init__(self, served: dict[str, Served], limits: Limits, key: Key | None, metrics: Metrics) -> None:
        self.served, self.limits, self.key, self.metrics = served, limits, key, metrics
        self.open: Counter[str] = Counter()
        """By client address."""

    def routes(self, app: FastAPI) -> None:
        """Add ``/stream``."""
        app.add_api_websocket_route("/stream", self.answer)

    async def answer(self, socket: WebSocket) -> None:
        """One stream, from the first message to the summary."""
        await socket.accept()
        client = socket.client.host if socket.client else ""
        full = self.open.total() >= self.limits.streams
        if full or self.open[client] >= self.limits.streams_each:
            problem = f"{self.open.total()} streams are open already"
            if not full:
                problem = f"{self.open[client]} streams of your address are open already"
            await _refuse(socket, {"status": 503, "problem": problem}, _BUSY)
            return
        self.open[client] += 1
        try:
            await self._stream(socket)
        except WebSocketDisconnect:
            pass
        except RefusedError as refused:
            await _refuse(socket, refused.said, _NO)
        except SensoriumError as error:
            await _refuse(socket, {"status": 422, "problem": error.problem, "fix": error.fix}, _NO)
        except TimeoutError:
            problem = f"nothing came for {self.limits.upload:g} seconds"
            await _refuse(socket, {"status": 408, "problem": problem}, _NO)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
            await _refuse(socket, {"status": 500, "problem": "something went wrong in the server"}, _BROKEN)
        finally:
            self.open[client] -= 1
            self.open += Counter()  # without those that have none left

    async def _stream(self, socket: WebSocket) -> None:
        first = await self._message(socket)
        given = _parsed(first)
        shown = given.pop("key", "")
        known = self.key is None or self.key.opens(socket.headers) or (isinstance(shown, str) and self.key.fits(shown))
        if not known:
            raise RefusedError(401, "a key is needed", fix='say {"key": ...} first, or send it as a header')
        model = given.pop("model", None)
        one = named(self.served, None if model is None else str(model))
        setup = Setup.from_json(given)
        row = row_of({name: cell for name, cell in setup.row.items() if name != setup.column}, one)
        session = Session(one.schema, Setup(**{**vars(setup), "row": row}))
        await socket.send_json({"window_steps": session.length, "hop_steps": session.hop, "channels": session.channels})
        waiting = _Waiting(keep=setup.keep)
        answering = asyncio.create_task(self._answer(socket, one, session, waiting))
        try:
            await self._read(socket, session, waiting, answering)
            await answering
        finally:
            if not answering.done():
                answering.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await answering
        await socket.send_json({"summary": session.summary()})
        await socket.close()

    async def _read(self, socket: WebSocket, session: Session, waiting: _Waiting, answering: asyncio.Task[None]) -> None:
        ended = False
        while not ended and not answering.done():
            message = await self._message(socket)
            if isinstance(message, bytes):
                windows = session.push(message)
            elif _parsed(message) == {"end": True}:
                windows, ended = session.windows.end(), True
            else:
                raise RefusedError(422, 'after the first message come chunks, and at last {"end": true}')
            arrived = monotonic()
            for window in windows:
                dropped = await waiting.put((window, arrived))
                session.windows.counts.dropped += dropped
                self.metrics.windows.labels("dropped").inc(dropped)
        await waiting.end()

    async def _answer(self, socket: WebSocket, one: Served, session: Session, waiting: _Waiting) -> None:
        while (found := await waiting.get()) is not None:
            window, arrived = found
            start = monotonic()
            try:
                (prediction,) = await one.predict([session.row(window)], lenient=True)
            except RefusedError as refused:
                if refused.status not in (429, 503):
                    raise
                session.windows.counts.dropped += 1
                self.metrics.windows.labels("dropped").inc()
                continue
            now = monotonic()
            self.metrics.windows.labels("answered").inc()
            self.metrics.lag.observe(now - arrived)
            await socket.send_json(session.told(window, prediction.to_json(), now - arrived, now - start))

    async def _message(self, socket: WebSocket) -> bytes | str:
        async with asyncio.timeout(self.limits.upload):
            message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        found = message.get("bytes")
        return found if found is not None else str(message.get("text", ""))


class _Waiting:
    """Windows between the one that reads and the one that answers: few, so that no answer is old.

    Args:
        keep: Whether reading waits for answering; else the oldest window gives way to the newest.
    """

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self._windows: deque[tuple[Window, float]] = deque()
        self._ended = False
        self._change = asyncio.Condition()

    async def put(self, item: tuple[Window, float]) -> int:
        """How many windows gave way to it."""
        async with self._change:
            if self.keep:
                await self._change.wait_for(lambda: len(self._windows) < BACKLOG or self._ended)
            dropped = max(len(self._windows) + 1 - BACKLOG, 0)
            for _ in range(dropped):
                self._windows.popleft()
            self._windows.append(item)
            self._change.notify_all()
        return dropped

    async def get(self) -> tuple[Window, float] | None:
        """The next window; None once there will be none."""
        async with self._change:
            await self._change.wait_for(lambda: self._windows or self._ended)
            self._change.notify_all()
            return self._windows.popleft() if self._windows else None

    async def end(self) -> None:
        """There will be no more."""
        async with self._change:
            self._ended = True
            self._change.notify_all()


def _parsed(message: bytes | str) -> dict[str, Any]:
    if isinstance(message, bytes):
        raise RefusedError(422, "the first message of a stream is text: what is streamed, as JSON")
    found = document_of(message, Limits(values=10_000))
    if not isinstance(found, dict):
        raise RefusedError(422, "a message is an object")
    return found


async def _refuse(socket: WebSocket, said: dict[str, Any], code: int) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it may be gone already
        await socket.send_text(json.dumps({"error": said}))
        await socket.close(code, str(said["problem"]).encode()[:120].decode(errors="ignore"))

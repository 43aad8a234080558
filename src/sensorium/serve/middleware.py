"""Every request comes through here: it shows its key, is counted while it is read, and leaves with safe headers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import traceback
from collections import Counter
from time import monotonic
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sensorium.core.errors import SensoriumError
from sensorium.serve.api_key import OPEN, Key
from sensorium.serve.http_errors import AGAIN, CLOSE, RefusedError
from sensorium.serve.limits import Limits
from sensorium.serve.metrics import Metrics
from sensorium.serve.rate_limit import Rate

log = logging.getLogger("sensorium.serve")
SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
}
_SAFE = [(name.lower().encode(), value.encode()) for name, value in SAFE.items()]
_UNREAD = {**AGAIN, **CLOSE}
PATIENCE = 0.1
"""Seconds after which it is looked whether a client still waits: most are answered sooner."""
_LEFT = 499
""""The client closed the connection", as web servers count it."""


class Door:
    """ASGI middleware around the whole application.

    The body is counted as it arrives, so that one without a true length is refused at the byte that is too many. Work for a
    client that has left is given up. ``HEAD`` is answered wherever ``GET`` is. An error
    of the server's own is told as such and logged by its kind and place only: its message may quote a cell.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, key: Key | None, metrics: Metrics) -> None:
        self.app, self.limits, self.key, self.metrics = app, limits, key, metrics
        self.rate = None if limits.rate is None else Rate(limits.rate)
        self.held = 0
        self.mine: Counter[str] = Counter()  # bytes by client address
        metrics.held.set_function(lambda: self.held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        start, status, mine, arrived = monotonic(), 0, 0, False
        until = loop.time() + self.limits.upload
        client = scope["client"][0] if scope["client"] else ""
        head = scope["method"] == "HEAD"
        left = asyncio.timeout(None)
        watching: list[asyncio.TimerHandle | asyncio.Task[None]] = []

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            with contextlib.suppress(RuntimeError):  # it is answered already
                left.reschedule(loop.time())

        async def counted() -> Message:
            nonlocal mine, arrived
            if arrived:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                problem = f"the request had not arrived after {self.limits.upload:g} seconds"
                raise RefusedError(408, problem, headers=CLOSE) from None
            size = len(message.get("body", b""))
            mine += size
            self._hold(client, size)
            if mine > self.limits.body:
                raise self._too_large()
            if self.held > self.limits.memory or self.mine[client] > max(self.limits.memory // 2, self.limits.body):
                whose = "from your address " if self.held <= self.limits.memory else ""
                raise RefusedError(503, f"the requests {whose}that are inside fill the memory", headers=_UNREAD)
            arrived = not message.get("more_body", False)
            if arrived:
                watching.append(loop.call_later(PATIENCE, lambda: watching.append(loop.create_task(gone()))))
            return message

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                told = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in _SAFE if pair[0] not in told)]
            elif head:
                message = {**message, "body": b""}
            await send(message)

        if head:
            scope = {**scope, "method": "GET"}  # the same headers, and nothing behind them
        try:
            self._enter(scope)
            async with left:
                await self.app(scope, counted, answering)
        except Exception as error:
            if left.expired():
                status = _LEFT  # and nobody to be told
            else:
                refused = error if isinstance(error, RefusedError) else _own(error)
                if status == 0:  # nothing was said yet
                    await refused.response()(scope, receive, answering)
        finally:
            for one in watching:
                one.cancel()
            self._hold(client, -mine)
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(monotonic() - start)

    def _enter(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self.rate is not None and scope["path"] != "/healthz" and scope["client"]:
            wait = self.rate.wait(scope["client"][0])
            if wait > 0:
                later = {"Retry-After": str(math.ceil(wait)), **CLOSE}
                problem = f"more than {self.limits.rate:g} requests a second from your address"
                raise RefusedError(429, problem, fix="ask less often, or several rows at a time", headers=later)
        if self.key is not None and scope["path"] not in OPEN and not self.key.opens(headers):
            more = {"WWW-Authenticate": "Bearer", **CLOSE}
            raise RefusedError(401, "a key is needed", fix="send it: Authorization: Bearer KEY", headers=more)
        told = headers.get("content-length", "0")
        if not told.isdecimal() or int(told[:20]) > self.limits.body:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        problem = f"the request is larger than {self.limits.body / 2**20:g} MiB"
        return RefusedError(413, problem, fix="send fewer rows at a time, or smaller files", headers=CLOSE)

    def _hold(self, client: str, size: int) -> None:
        self.held += size
        self.mine[client] += size
        if not self.mine[client]:
            del self.mine[client]


def _own(error: Exception) -> RefusedError:
    """An error that is not the client's: its message stays out of the log."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
    said: Any = error.problem if isinstance(error, SensoriumError) else "something went wrong in the server"
    return RefusedError(500, said)

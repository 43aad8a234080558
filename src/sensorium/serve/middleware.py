"""Middleware: authentication, body limits, security headers and request metrics."""

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
from sensorium.serve.api_key import PUBLIC_PATHS, ApiKey
from sensorium.serve.http_errors import CLOSE, RETRY_AFTER, RequestError
from sensorium.serve.limits import Limits
from sensorium.serve.metrics import Metrics
from sensorium.serve.rate_limit import RateLimiter

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
_RETRY_AND_CLOSE = {**RETRY_AFTER, **CLOSE}
DISCONNECT_WATCH_DELAY = 0.1
"""Seconds after which to watch for a disconnected client: most requests are answered sooner."""
_CLIENT_CLOSED = 499
"""The status that web servers log for a connection closed by the client."""


class Middleware:
    """ASGI middleware around the application: authentication, body limits, security headers and metrics.

    The body is counted as it arrives, so that a request with a wrong length is refused once it exceeds the limit. Requests
    of disconnected clients are cancelled. ``HEAD`` works wherever ``GET`` does. Internal errors are reported as status 500
    and logged by type and location only, since their message may quote a cell.

    Args:
        app: The application.
        limits: Limits on the body, the memory, the upload time and the request rate.
        key: The API key, if one is required.
        metrics: Counts requests and bytes.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, key: ApiKey | None, metrics: Metrics) -> None:
        self.app, self.limits, self.key, self.metrics = app, limits, key, metrics
        self.rate = None if limits.rate is None else RateLimiter(limits.rate)
        self.held = 0
        self.held_by: Counter[str] = Counter()  # bytes by client address
        metrics.held.set_function(lambda: self.held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        start, status, size, arrived = monotonic(), 0, 0, False
        deadline = loop.time() + self.limits.upload
        client = scope["client"][0] if scope["client"] else ""
        head = scope["method"] == "HEAD"
        connected = asyncio.timeout(None)
        watching: list[asyncio.TimerHandle | asyncio.Task[None]] = []

        async def watch_disconnect() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            with contextlib.suppress(RuntimeError):  # already answered
                connected.reschedule(loop.time())

        async def limited_receive() -> Message:
            nonlocal size, arrived
            if arrived:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                problem = f"the request did not arrive completely within {self.limits.upload:g} seconds"
                raise RequestError(408, problem, headers=CLOSE) from None
            received = len(message.get("body", b""))
            size += received
            self._hold(client, received)
            if size > self.limits.body:
                raise self._too_large()
            if self.held > self.limits.memory or self.held_by[client] > max(self.limits.memory // 2, self.limits.body):
                source = " from your address" if self.held <= self.limits.memory else ""
                raise RequestError(
                    503, f"the requests{source} in progress fill the memory of the server", headers=_RETRY_AND_CLOSE
                )
            arrived = not message.get("more_body", False)
            if arrived:
                watching.append(
                    loop.call_later(DISCONNECT_WATCH_DELAY, lambda: watching.append(loop.create_task(watch_disconnect())))
                )
            return message

        async def secured_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in _SAFE if pair[0] not in present)]
            elif head:
                message = {**message, "body": b""}
            await send(message)

        if head:
            scope = {**scope, "method": "GET"}  # the same headers without the body
        try:
            self._check(scope)
            async with connected:
                await self.app(scope, limited_receive, secured_send)
        except Exception as error:
            if connected.expired():
                status = _CLIENT_CLOSED
            else:
                failure = error if isinstance(error, RequestError) else _internal_error(error)
                if status == 0:  # no response was started
                    await failure.response()(scope, receive, secured_send)
        finally:
            for watcher in watching:
                watcher.cancel()
            self._hold(client, -size)
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(monotonic() - start)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self.rate is not None and scope["path"] != "/healthz" and scope["client"]:
            wait = self.rate.wait(scope["client"][0])
            if wait > 0:
                retry = {"Retry-After": str(math.ceil(wait)), **CLOSE}
                problem = f"more than {self.limits.rate:g} requests per second from your address"
                raise RequestError(429, problem, fix="send fewer requests, with several rows each", headers=retry)
        if self.key is not None and scope["path"] not in PUBLIC_PATHS and not self.key.authorises(headers):
            challenge = {"WWW-Authenticate": "Bearer", **CLOSE}
            raise RequestError(
                401, "an API key is required", fix="send the header Authorization: Bearer KEY", headers=challenge
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self.limits.body:
            raise self._too_large()

    def _too_large(self) -> RequestError:
        problem = f"the request is larger than {self.limits.body / 2**20:g} MiB"
        return RequestError(413, problem, fix="send fewer rows at a time, or smaller files", headers=CLOSE)

    def _hold(self, client: str, size: int) -> None:
        self.held += size
        self.held_by[client] += size
        if not self.held_by[client]:
            del self.held_by[client]


def _internal_error(error: Exception) -> RequestError:
    """Return the response for an internal error; its message stays out of the log."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
    problem: Any = error.problem if isinstance(error, SensoriumError) else "internal server error"
    return RequestError(500, problem)

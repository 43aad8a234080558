"""The server process: connections that dawdle are closed, and SIGTERM lets what is inside finish."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CONNECTIONS = 512
"""Open at once; more are told to come again."""


class Prompt(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn is not followed by the type checker
    """HTTP whose client has a few seconds and 64 KiB for a request's head: one that sends it mark by mark, or never ends
    it, would stay for ever. (The body has its own clock and count, in ``door``.)
    """

    SECONDS = 10.0
    HEAD = 2**16
    _clock: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self or not self._waiting():
            self._stop()
            self._head = 0
            return
        self._start()
        self._head += len(data)
        if self._head > self.HEAD:
            self.send_400_response("The head of the request is too large.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._stop()
        super().handle_websocket_upgrade()

    def _waiting(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _start(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(self.SECONDS, self._late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        self._clock = None
        if self._waiting() and not self.transport.is_closing():
            self.transport.close()


def server(app: FastAPI, *, host: str = "127.0.0.1", port: int = 8000, grace: int = 30) -> uvicorn.Server:
    """A server that ``run`` starts. On SIGTERM it takes no more connections and finishes what it has.

    Args:
        grace: Seconds that requests have to finish on the way down.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Prompt,
            ws="websockets-sansio",
            ws_max_size=4 * 2**20,
            ws_per_message_deflate=False,  # a small message could unpack to a large one
            lifespan="on",
            access_log=False,  # an address may hold what a user typed
            log_level="warning",
            server_header=False,
            date_header=True,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=grace,
            limit_concurrency=CONNECTIONS,
            proxy_headers=False,
        )
    )

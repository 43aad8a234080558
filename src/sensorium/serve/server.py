"""The server process: connections that dawdle are closed, and SIGTERM lets what is inside finish."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections import Counter
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sensorium.core.errors import ConfigError

CONNECTIONS = 512
"""Open at once; more are told to come again."""
_BACKLOG = 2048
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""A machine without IPv6 may still know a name's address there."""


_TOLD = json.dumps(
    {"error": {"status": 429, "problem": "too many unfinished requests from your address", "fix": "finish those first"}}
).encode()
_CROWDED = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    + f"Content-Length: {len(_TOLD)}\r\n\r\n".encode()
    + _TOLD
)


class Crowd:
    """How many connections each client address has whose request has not arrived whole.

    Args:
        most: Of one address.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._by: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Whether there is room for one more, which is then counted."""
        if self._by[address] >= self.most:
            return False
        self._by[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One less."""
        self._by[address] -= 1
        if not self._by[address]:
            del self._by[address]


class Prompt(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn is not followed by the type checker
    """HTTP whose client has a few seconds and 64 KiB for a request's head: one that sends it mark by mark, or never ends
    it, would stay for ever. (The body has its own clock and count, in ``door``.) And one address may have only so many
    connections whose request has not arrived whole.
    """

    SECONDS = 10.0
    HEAD = 2**16
    crowd: Crowd
    _clock: asyncio.TimerHandle | None = None
    _head = 0
    _counted = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._start()
        self._mark(True)

    def data_received(self, data: bytes) -> None:
        self._read(data)
        if self.transport.get_protocol() is self:  # else it has become a web socket
            cycle: Any = self.cycle
            self._mark(self._waiting() or bool(cycle.more_body))

    def _mark(self, unfinished: bool) -> None:
        if unfinished == self._counted:
            return
        address = self.client[0] if self.client else ""
        if not unfinished:
            self._counted = False
            self.crowd.leave(address)
        elif self.crowd.enter(address):
            self._counted = True
        else:
            self.transport.write(_CROWDED)
            self.transport.close()

    def _read(self, data: bytes) -> None:
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
        self._mark(False)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._stop()
        self._mark(False)
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
    # A class for this server alone: protocols are made by uvicorn, and must share the count.
    protocol = type("Prompt", (Prompt,), {"crowd": Crowd(app.state.limits.unfinished)})
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=protocol,
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


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets on every address of a host, for ``listen``. Raises ``ConfigError`` where another program has the port."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(
            f"no address is known for --host {host!r} ({error.strerror})", fix="give one of this machine"
        ) from None
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        port = port or (sockets[0].getsockname()[1] if sockets else 0)
        one = socket.socket(family, kind, protocol)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], port, *address[2:]))
        except OSError as error:
            one.close()
            failed = error
            if error.errno not in _NOT_HERE:
                break
        else:
            sockets.append(one)
    if failed is not None and (failed.errno not in _NOT_HERE or not sockets):
        for one in sockets:
            one.close()
        raise _unable(host, port, failed)
    return sockets


def listen(sockets: list[socket.socket], host: str) -> int:
    """Take connections from now on; the port. Raises ``ConfigError`` where another program was there first."""
    port = int(sockets[0].getsockname()[1])
    for one in sockets:
        try:
            one.listen(_BACKLOG)
        except OSError as error:
            raise _unable(host, port, error) from None
    return port


def _unable(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        fix = f"stop that one, or take another port: --port {port + 1 if port < 65535 else 8000} (0 takes any that is free)"
        return ConfigError(f"port {port} of {host} is taken by another program", fix=fix)
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigError(f"port {port} is not open to your user", fix="take one above 1023: --port 8000")
    return ConfigError(f"{host} cannot be listened on ({error.strerror})", fix="give --host an address of this machine")

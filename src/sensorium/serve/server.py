"""The server process: timeouts for slow clients, limits on connections and graceful shutdown."""

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
"""Maximum number of open connections; further requests get status 503."""
_BACKLOG = 2048
_UNAVAILABLE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors for an address family the machine lacks: a name may have IPv6 addresses on a machine without IPv6."""
_TOO_MANY_BODY = json.dumps(
    {"error": {"status": 429, "problem": "too many unfinished requests from your address", "fix": "finish those first"}}
).encode()
_TOO_MANY_RESPONSE = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    + f"Content-Length: {len(_TOO_MANY_BODY)}\r\n\r\n".encode()
    + _TOO_MANY_BODY
)


class UnfinishedRequests:
    """Counts the connections of each client address whose request has not arrived completely.

    Args:
        most: Maximum number of one address.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._count: Counter[str] = Counter()

    def add(self, address: str) -> bool:
        """Count a connection of ``address``; return False, without counting, if it has too many."""
        if self._count[address] >= self.most:
            return False
        self._count[address] += 1
        return True

    def remove(self, address: str) -> None:
        """Remove a connection of ``address`` from the count."""
        self._count[address] -= 1
        if not self._count[address]:
            del self._count[address]


class TimedHttpProtocol(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn is not followed by the type checker
    """HTTP with a time limit and a size limit for the head of a request, against clients that never finish it.

    The body has its own limits, in ``serve.middleware``. The number of unfinished requests of one address is limited too.
    """

    SECONDS = 10.0
    MAX_HEAD = 2**16
    unfinished: UnfinishedRequests
    _timer: asyncio.TimerHandle | None = None
    _head = 0
    _is_counted = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the time limit of a new connection on ``transport``."""
        super().connection_made(transport)
        self._start_timer()
        self._set_unfinished(True)

    def data_received(self, data: bytes) -> None:
        """Process ``data`` and update the count of unfinished requests."""
        self._read(data)
        if self.transport.get_protocol() is self:  # not yet upgraded to a WebSocket
            cycle: Any = self.cycle
            self._set_unfinished(self._reading_head() or bool(cycle.more_body))

    def _set_unfinished(self, unfinished: bool) -> None:
        if unfinished == self._is_counted:
            return
        address = self.client[0] if self.client else ""
        if not unfinished:
            self._is_counted = False
            self.unfinished.remove(address)
        elif self.unfinished.add(address):
            self._is_counted = True
        else:
            self.transport.write(_TOO_MANY_RESPONSE)
            self.transport.close()

    def _read(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self or not self._reading_head():
            self._stop_timer()
            self._head = 0
            return
        self._start_timer()
        self._head += len(data)
        if self._head > self.MAX_HEAD:
            self.send_400_response("The head of the request is too large.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit and the count; ``exc`` is the error that closed the connection, if any."""
        self._stop_timer()
        self._set_unfinished(False)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Stop the time limit and the count: a live stream is not an unfinished request."""
        self._stop_timer()
        self._set_unfinished(False)
        super().handle_websocket_upgrade()

    def _reading_head(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.SECONDS, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self._reading_head() and not self.transport.is_closing():
            self.transport.close()


def create_server(app: FastAPI, *, host: str = "127.0.0.1", port: int = 8000, grace: int = 30) -> uvicorn.Server:
    """Return a server; its method ``run`` starts it. On SIGTERM it accepts no more connections and finishes requests.

    Args:
        app: The application, from ``serve.app.create``.
        host: The address to listen on.
        port: The port; 0 for any free port.
        grace: Maximum seconds that requests may take to finish during shutdown.
    """
    # A class for this server: uvicorn creates the protocols, which must share the count.
    protocol = type(
        "TimedHttpProtocol", (TimedHttpProtocol,), {"unfinished": UnfinishedRequests(app.state.limits.unfinished)}
    )
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=protocol,
            ws="websockets-sansio",
            ws_max_size=4 * 2**20,
            ws_per_message_deflate=False,  # a small message could decompress to a large one
            lifespan="on",
            access_log=False,  # a URL may contain user input
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
    """Return sockets bound to ``port`` on every address of ``host``, for ``listen``.

    Raises:
        ConfigError: The port is in use, or the host has no address on this machine.
    """
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(
            f"--host {host!r} has no address ({error.strerror})", fix="give an address or name of this machine"
        ) from None
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(addresses):
        port = port or (sockets[0].getsockname()[1] if sockets else 0)
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.bind((address[0], port, *address[2:]))
        except OSError as error:
            opened.close()
            failed = error
            if error.errno not in _UNAVAILABLE:
                break
        else:
            sockets.append(opened)
    if failed is not None and (failed.errno not in _UNAVAILABLE or not sockets):
        for opened in sockets:
            opened.close()
        raise _bind_error(host, port, failed)
    return sockets


def listen(sockets: list[socket.socket], host: str) -> int:
    """Accept connections on ``sockets`` from now on; return the port.

    Raises:
        ConfigError: Another program uses the port of ``host``.
    """
    port = int(sockets[0].getsockname()[1])
    for opened in sockets:
        try:
            opened.listen(_BACKLOG)
        except OSError as error:
            raise _bind_error(host, port, error) from None
    return port


def _bind_error(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        fix = f"stop it, or use another port: --port {port + 1 if port < 65535 else 8000} (0 for any free port)"
        return ConfigError(f"port {port} of {host} is in use by another program", fix=fix)
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigError(f"no permission to use port {port}", fix="use a port above 1023: --port 8000")
    return ConfigError(f"cannot listen on {host} ({error.strerror})", fix="give --host an address of this machine")

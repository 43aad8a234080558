"""By which names a server may be asked, and from which pages: what keeps other sites' scripts out."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from sensorium.core.errors import ConfigError
from sensorium.serve.http_errors import CLOSE, RefusedError
from sensorium.serve.metrics import Metrics
from sensorium.serve.middleware import SAFE

LOOPBACK = "localhost"
ANY = "*"
HEAD = 2**16
"""Bytes of all headers, at most."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_WELCOME = frozenset({"same-origin", "none"})
"""What ``Sec-Fetch-Site`` says of this server's own page, and of an address that a user typed."""
_PORTS = {"http": "80", "https": "443"}


class Names(NamedTuple):
    """The names and addresses by which a server may be asked.

    A page of another site can have its own name lead to 127.0.0.1 (DNS rebinding), and its scripts would then be of the
    same origin as the server. They cannot choose the name that the browser sends, though: ``Host``.

    Args:
        exact: In lower case; IPv6 without brackets. ``localhost`` stands for all loopback addresses too.
        below: Domains whose names are all allowed, as ``.example.com``.
        literal: Whether any address in numbers is allowed: no name leads to it, so that it cannot be rebound.
        every: Whether anything is.
    """

    exact: frozenset[str] = frozenset({LOOPBACK})
    below: tuple[str, ...] = ()
    literal: bool = False
    every: bool = False

    @classmethod
    def of(cls, host: str = "127.0.0.1", allowed: Sequence[str] = ()) -> Names:
        """For a server that listens on ``host``, and the names that were allowed besides: ``*.example.com``, ``*``.

        One that listens on all addresses may be asked by any of them, and by this machine's own name.
        """
        exact, below = {LOOPBACK}, []
        for name in allowed:
            if name == ANY:
                return cls(every=True)
            plain = name.removeprefix("*").lower()
            if name.startswith("*.") and _HOST.fullmatch(plain[1:]):
                below.append(plain)
            elif (found := split(name)) is None or found[1]:
                fix = "give a name or an address alone, as a.example, *.example.com or 192.168.1.5"
                raise ConfigError(f"{name!r} is no name of a host", fix=fix)
            else:
                exact.add(found[0])
        wildcard = host in ("", "0.0.0.0", "::")
        exact.add(socket.gethostname().lower() if wildcard else host.lower().strip("[]"))
        return cls(frozenset(exact), tuple(below), wildcard)

    def allow(self, name: str) -> bool:
        """Whether a server may be asked by this name (without a port)."""
        if self.every or name in self.exact or name.endswith(self.below):
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self.literal or address.is_loopback

    def told(self) -> str:
        """In words."""
        if self.every:
            return "any name"
        known = [*sorted(self.exact), *(f"*{name}" for name in self.below), *["any address in numbers"] * self.literal]
        return ", ".join(known)


def split(host: str) -> tuple[str, str] | None:
    """A ``Host`` as the name, in lower case and without brackets or a last dot, and the port; None where it is neither."""
    if (found := _HOST.fullmatch(host)) is None:
        return None
    return found[1].strip("[]").lower().removesuffix("."), found[2] or ""


def origins(given: Sequence[str]) -> frozenset[str]:
    """Origins that a user allows, as browsers spell them. Raises ``ConfigError`` on what is none."""
    found = set()
    for one in given:
        parts = urlsplit(one)
        if parts.scheme not in _PORTS or split(parts.netloc) is None or parts.path not in ("", "/") or parts.query:
            raise ConfigError(f"{one!r} is no origin", fix="give scheme, name and port alone: https://app.example:8443")
        found.add(_canonical(parts.scheme, parts.netloc))
    return frozenset(found)


class Guard:
    """ASGI middleware before everything else: who is asked (``Host``), and for which page (``Origin``, ``Sec-Fetch-Site``).

    Programs that are no browsers send neither of the last two, and are not asked for them. What is refused here has cost
    nothing: no body was read.
    """

    def __init__(self, app: ASGIApp, *, names: Names, allowed: frozenset[str], metrics: Metrics) -> None:
        self.app, self.names, self.allowed, self.metrics = app, names, allowed, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(scope)
            except RefusedError as refused:
                self.metrics.requests.labels("other", str(refused.status)).inc()
                refused.headers |= SAFE
                await _refuse(refused.response(), scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) + 4 for name, value in headers.raw) > HEAD:
            raise RefusedError(431, f"the headers are larger than {HEAD / 2**10:g} KiB", headers=CLOSE)
        hosts, came = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or (found := split(hosts[0])) is None:
            problem = (
                "the request names no host (Host)" if not hosts else "the request names two hosts, or none that is one"
            )
            raise RefusedError(400, problem, headers=CLOSE)
        if not self.names.allow(found[0]):
            problem = f"this server is not asked by the name {found[0][:80]!r}"
            raise RefusedError(421, problem, fix="start it with --allow-host NAME for another name", headers=CLOSE)
        if came:
            if len(came) > 1 or not self._known(came[0], hosts[0]):
                raise _elsewhere(f"a page from {came[0][:80]!r} may not ask this server")
            if _canonical(*came[0].lower().split("://")) in self.allowed:
                return  # of another site, and allowed
        site = headers.get("sec-fetch-site")
        if site is not None and site not in _WELCOME and not _followed(scope, headers):
            raise _elsewhere("pages of other sites may not ask this server")

    def _known(self, origin: str, host: str) -> bool:
        """Whether an origin is this server's own, behind whatever speaks TLS for it, or an allowed one."""
        scheme, mark, place = origin.lower().partition("://")
        if not mark or scheme not in _PORTS:
            return False  # null: a page in a sandbox, or from a file
        same = _canonical(scheme, place) == _canonical(scheme, host.lower())
        return same or _canonical(scheme, place) in self.allowed


def _canonical(scheme: str, place: str) -> str:
    return f"{scheme}://{place.lower().removesuffix(f':{_PORTS[scheme]}')}"


def _followed(scope: Scope, headers: Headers) -> bool:
    """Whether a user follows a link to the page: it is shown, and the other site cannot read it."""
    went = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return went and scope.get("method") in ("GET", "HEAD") and scope["path"] == "/"


def _elsewhere(problem: str) -> RefusedError:
    return RefusedError(
        403, problem, fix="start the server with --allow-origin https://... for a page of yours", headers=CLOSE
    )


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    socket = WebSocket(scope, receive, send)
    if "websocket.http.response" in scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close(1008)  # before it is accepted: 403

"""Checks of the ``Host`` and ``Origin`` headers, against DNS rebinding and requests from other web sites."""

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
from sensorium.serve.http_errors import CLOSE, RequestError
from sensorium.serve.metrics import Metrics
from sensorium.serve.middleware import SAFE

LOOPBACK = "localhost"
ANY = "*"
MAX_HEADER_BYTES = 2**16
"""Maximum size of all headers."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_ALLOWED_SITES = frozenset({"same-origin", "none"})
"""Values of ``Sec-Fetch-Site`` for the page of this server and for an address typed by a user."""
_PORTS = {"http": "80", "https": "443"}


class AllowedHosts(NamedTuple):
    """The host names and addresses that a server accepts.

    With DNS rebinding the name of another web site resolves to 127.0.0.1, so that its scripts have the same origin as the
    server. The browser still sends that name as ``Host``, which is therefore checked.

    Args:
        exact: Names in lower case, IPv6 without brackets. ``localhost`` includes all loopback addresses.
        domains: Domains whose subdomains are all allowed: ``.example.com``.
        any_address: Whether any IP address is allowed: it cannot be rebound, since it is not a name.
        any_host: Whether anything is allowed.
    """

    exact: frozenset[str] = frozenset({LOOPBACK})
    domains: tuple[str, ...] = ()
    any_address: bool = False
    any_host: bool = False

    @classmethod
    def of(cls, host: str = "127.0.0.1", allowed: Sequence[str] = ()) -> AllowedHosts:
        """Return the names for a server that listens on ``host``, and further ``allowed`` names: ``*.example.com``, ``*``.

        A server that listens on all addresses accepts any IP address and the name of this machine.

        Raises:
            ConfigError: An allowed name is not a host name.
        """
        exact, domains = {LOOPBACK}, []
        for name in allowed:
            if name == ANY:
                return cls(any_host=True)
            plain = name.removeprefix("*").lower()
            if name.startswith("*.") and _HOST.fullmatch(plain[1:]):
                domains.append(plain)
            elif (parsed := split_host(name)) is None or parsed[1]:
                fix = "give only a name or an address: a.example, *.example.com or 192.168.1.5"
                raise ConfigError(f"{name!r} is not a host name", fix=fix)
            else:
                exact.add(parsed[0])
        wildcard = host in ("", "0.0.0.0", "::")
        exact.add(socket.gethostname().lower() if wildcard else host.lower().strip("[]"))
        return cls(frozenset(exact), tuple(domains), wildcard)

    def allow(self, name: str) -> bool:
        """Return whether the host ``name``, without a port, is accepted."""
        if self.any_host or name in self.exact or name.endswith(self.domains):
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self.any_address or address.is_loopback

    def describe(self) -> str:
        """Return the accepted names as text."""
        if self.any_host:
            return "any name"
        accepted = [*sorted(self.exact), *(f"*{name}" for name in self.domains), *["any IP address"] * self.any_address]
        return ", ".join(accepted)


def split_host(host: str) -> tuple[str, str] | None:
    """Split ``host`` into its name, in lower case without brackets or a final dot, and its port; None if it is invalid."""
    if (match := _HOST.fullmatch(host)) is None:
        return None
    return match[1].strip("[]").lower().removesuffix("."), match[2] or ""


def parse_origins(texts: Sequence[str]) -> frozenset[str]:
    """Return the origins ``texts`` as browsers spell them. Raises ``ConfigError`` for an invalid one."""
    origins = set()
    for text in texts:
        parts = urlsplit(text)
        if parts.scheme not in _PORTS or split_host(parts.netloc) is None or parts.path not in ("", "/") or parts.query:
            raise ConfigError(f"{text!r} is not an origin", fix="give only scheme, name and port: https://app.example:8443")
        origins.add(_canonical(parts.scheme, parts.netloc))
    return frozenset(origins)


class HostGuard:
    """ASGI middleware that checks ``Host``, ``Origin`` and ``Sec-Fetch-Site`` before anything is read.

    Programs other than browsers send neither ``Origin`` nor ``Sec-Fetch-Site`` and need not.

    Args:
        app: The application.
        names: The accepted host names.
        allowed: The origins of other web sites that may send requests.
        metrics: Counts refused requests.
    """

    def __init__(self, app: ASGIApp, *, names: AllowedHosts, allowed: frozenset[str], metrics: Metrics) -> None:
        self.app, self.names, self.allowed, self.metrics = app, names, allowed, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(scope)
            except RequestError as error:
                self.metrics.requests.labels("other", str(error.status)).inc()
                error.headers |= SAFE
                await _refuse(error.response(), scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) + 4 for name, value in headers.raw) > MAX_HEADER_BYTES:
            raise RequestError(431, f"the headers are larger than {MAX_HEADER_BYTES / 2**10:g} KiB", headers=CLOSE)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or (parsed := split_host(hosts[0])) is None:
            problem = (
                "the request has no Host header" if not hosts else "the request has several Host headers or an invalid one"
            )
            raise RequestError(400, problem, headers=CLOSE)
        if not self.names.allow(parsed[0]):
            problem = f"this server does not accept the host name {parsed[0][:80]!r}"
            raise RequestError(421, problem, fix="start it with --allow-host NAME to accept another name", headers=CLOSE)
        if origins:
            if len(origins) > 1 or not self._allowed_origin(origins[0], hosts[0]):
                raise _cross_site(f"pages from {origins[0][:80]!r} may not send requests to this server")
            if _canonical(*origins[0].lower().split("://")) in self.allowed:
                return  # another site that is allowed
        site = headers.get("sec-fetch-site")
        if site is not None and site not in _ALLOWED_SITES and not _is_link(scope, headers):
            raise _cross_site("pages of other web sites may not send requests to this server")

    def _allowed_origin(self, origin: str, host: str) -> bool:
        """Return whether an origin is that of this server, possibly behind a TLS proxy, or an allowed one."""
        scheme, mark, place = origin.lower().partition("://")
        if not mark or scheme not in _PORTS:
            return False  # "null": a sandboxed page, or a page from a file
        same = _canonical(scheme, place) == _canonical(scheme, host.lower())
        return same or _canonical(scheme, place) in self.allowed


def _canonical(scheme: str, place: str) -> str:
    return f"{scheme}://{place.lower().removesuffix(f':{_PORTS[scheme]}')}"


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Return whether a user follows a link to the page, which the other site cannot read."""
    navigates = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return navigates and scope.get("method") in ("GET", "HEAD") and scope["path"] == "/"


def _cross_site(problem: str) -> RequestError:
    return RequestError(
        403, problem, fix="start the server with --allow-origin https://... to allow a web site", headers=CLOSE
    )


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    socket = WebSocket(scope, receive, send)
    if "websocket.http.response" in scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close(1008)  # closed before it is accepted: status 403

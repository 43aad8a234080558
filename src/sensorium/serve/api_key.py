"""Authentication with an API key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from sensorium.core.errors import ConfigError

MIN_KEY_LENGTH = 16
PUBLIC_PATHS = frozenset(
    {"/", "/healthz", "/page.css", "/page.js", "/recording.js", "/chat.html", "/chat.js", "/search.js"}
)
"""Paths that need no key: the web pages, which ask for it, and the health check."""


class ApiKey:
    """An API key, stored as a digest and compared in constant time against timing attacks.

    Args:
        key: The key, of at least 16 characters.

    Raises:
        ConfigError: The key is too short.
    """

    def __init__(self, key: str) -> None:
        key = key.strip()
        if len(key) < MIN_KEY_LENGTH:
            raise ConfigError(
                f"an API key of {len(key)} characters is too short",
                fix=f"use at least {MIN_KEY_LENGTH}: openssl rand -hex 16",
            )
        self._digest = _digest(key)

    def matches(self, candidate: str) -> bool:
        """Return whether ``candidate`` is the key."""
        return hmac.compare_digest(self._digest, _digest(candidate))

    def authorises(self, headers: Mapping[str, str]) -> bool:
        """Return whether the request ``headers`` contain the key: ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        candidate = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return self.matches(candidate)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

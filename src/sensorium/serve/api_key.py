"""The key that clients must show, where a server asks for one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from sensorium.core.errors import ConfigError

SHORTEST = 16
OPEN = frozenset({"/", "/healthz", "/page.css", "/page.js"})
"""What may be seen without a key: the page, which asks for it, and whether the server is up."""


class Key:
    """An API key; only its digest is kept. Compared in constant time, so that it cannot be guessed mark by mark."""

    def __init__(self, key: str) -> None:
        key = key.strip()
        if len(key) < SHORTEST:
            raise ConfigError(
                f"an API key of {len(key)} characters can be guessed", fix=f"use {SHORTEST} or more: openssl rand -hex 16"
            )
        self._digest = _digest(key)

    def fits(self, shown: str) -> bool:
        """Whether this is the key."""
        return hmac.compare_digest(self._digest, _digest(shown))

    def opens(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows it: ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        shown = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return self.fits(shown)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

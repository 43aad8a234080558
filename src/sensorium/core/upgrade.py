"""Recipes and artefacts of older formats, dict to dict, so that a saved model lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from sensorium.core.errors import ConfigError

VERSION: Final[Literal[1]] = 1

_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""``_STEPS[n]`` turns a document of version n into version n + 1."""


def upgrade(document: dict[str, Any], source: str) -> dict[str, Any]:
    """The document in today's format; a newer one than this library knows is refused."""
    version = document.get("version", VERSION)
    if not isinstance(version, int) or version > VERSION or version < 1:
        raise ConfigError(f"format version {version!r} is not known here", file=source, fix="pip install -U sensorium")
    while version < VERSION:
        document = _STEPS[version](document)
        version += 1
    return {**document, "version": VERSION}

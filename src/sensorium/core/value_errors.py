"""Readable messages for invalid values of a recipe or an option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WANTED = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def reason(error: Mapping[str, Any]) -> str:
    """Return why a value is refused, from one ``error`` of pydantic: ``'abc' is not a whole number``."""
    kind = str(error["type"]).partition("_")[0]
    if kind in _WANTED and str(error["type"]).endswith(("_parsing", "_type", "_from_float")):
        return f"{error['input']!r:.80} is not {_WANTED[kind]}"
    return str(error["msg"])

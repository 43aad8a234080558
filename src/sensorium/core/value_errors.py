"""Readable messages for invalid values of a recipe or an option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WANTED = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text", "list": "a list"}
_LIMITS = {
    "greater_than_equal": ("ge", "too small: it must be {} or more"),
    "greater_than": ("gt", "too small: it must be above {}"),
    "less_than_equal": ("le", "too large: it must be at most {}"),
    "less_than": ("lt", "too large: it must be below {}"),
    "literal_error": ("expected", "none of {}"),
}


def reason(error: Mapping[str, Any]) -> str:
    """Return why a value is refused, from one ``error`` of pydantic: ``'abc' is not a whole number``."""
    kind = str(error["type"]).partition("_")[0]
    if error["type"] in _LIMITS:
        name, words = _LIMITS[error["type"]]
        limit = error["ctx"][name]
        limit = int(limit) if isinstance(limit, float) and limit.is_integer() else limit
        return f"{error['input']!r:.80} is {words.format(limit)}"
    if error["type"] == "finite_number":
        return f"{error['input']!r:.80} is not a finite number"
    if kind in _WANTED and str(error["type"]).endswith(("_parsing", "_type", "_from_float")):
        return f"{error['input']!r:.80} is not {_WANTED[kind]}"
    return str(error["msg"])

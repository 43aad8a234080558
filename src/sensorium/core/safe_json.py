"""Strict reading of JSON from untrusted files: plain data within limits, or an error with the reason."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

DEEPEST = 100
"""Maximum depth of nested lists and mappings."""
DIGITS = 300
"""Maximum digits of an integer; any integer of so many digits can be converted to a float."""


def read_json(data: bytes, *, most: int) -> Any:
    """Return a JSON document of at most ``most`` bytes as plain data. Raises ``ValueError`` with the reason.

    Stricter than ``json``: UTF-8 only, no duplicate keys, no NaN or infinity, no nesting deeper than ``DEEPEST``, and no
    lone surrogates (halves of a character), which could not be written again.
    """
    if len(data) > most:
        raise ValueError(f"it has {len(data):,} bytes, and {most:,} are read at most")
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise ValueError(_DEEP) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {error.start}") from None
    check_plain(document)
    return document


def check_plain(document: Any) -> None:
    """Raise ``ValueError`` if ``document`` is nested too deeply, has a number that is not finite, or text that is not
    Unicode."""
    level: list[Any] = [document]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                for key in item:
                    if not isinstance(key, (str, int, float, bool, type(None))):
                        raise ValueError(f"a {type(key).__name__} is not a key")
                    if isinstance(key, str):
                        _check_text(key)
                _gather(item.values(), below)
            elif isinstance(item, list):
                _gather(item, below)
            else:
                _gather((item,), below)
        if not below:
            return
        level = below
    raise ValueError(_DEEP)


_DEEP = f"it has more than {DEEPEST} lists or mappings within each other"


def _gather(items: Iterable[Any], below: list[Any]) -> None:
    """Check scalar values, and collect lists and mappings for the next level."""
    for item in items:
        if isinstance(item, (dict, list)):
            below.append(item)
        elif isinstance(item, str):
            _check_text(item)
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise ValueError(f"{item} is not a finite number")
        elif item is not None and not isinstance(item, (bool, int)):
            raise ValueError(f"a value of type {type(item).__name__} is not plain data")


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("a text contains half a character (a lone surrogate)") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        keys: set[str] = set()
        twice = next(key for key, _ in pairs if key in keys or keys.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:60]!r} appears twice")
    return mapping


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text):,} digits is too large")
    return int(text)

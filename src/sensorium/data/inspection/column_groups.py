"""Groups of columns: which columns of a table stand side by side as a stream of their own, by patterns of their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sensorium.core import quoting
from sensorium.core.errors import ConfigError, nearest

MANY = 4
"""Columns that share the beginning of their names, from which on a group is proposed."""
PROPOSED = 12
"""Groups that are proposed, at most: more are no groups but a way of naming."""
SAID = ("seed", "version", "objectives")
"""What no group may be called on the command line: there ``seed=3`` sets a key of the recipe."""
_BEGINNING = re.compile(r"(.+?)(?:[_.:\-/ ]|(?<=\D)(?=\d))")

Patterns = Mapping[str, str | Sequence[str]]


def matches(pattern: str, names: Sequence[str]) -> list[str]:
    """The names that a pattern stands for: ``*`` for any letters, ``?`` for one; a name that is there stands for itself."""
    if pattern in names:
        return [pattern]
    wild = {"*": ".*", "?": "."}
    found = re.compile("".join(wild.get(letter, re.escape(letter)) for letter in pattern), re.DOTALL)
    return [name for name in names if found.fullmatch(name)]


def groups(patterns: Patterns, names: Sequence[str], inputs: Iterable[str]) -> dict[str, str]:
    """By column the group it belongs to. Columns that are no input (a target, a row id) are passed over.

    Raises ``ConfigError`` for a pattern that stands for no input, and for a column in two groups.

    Args:
        names: All columns of the table.
        inputs: Those that are inputs.
    """
    allowed = set(inputs)
    found: dict[str, str] = {}
    for stream, given in patterns.items():
        each = [given] if isinstance(given, str) else list(given)
        if not each:
            raise ConfigError(f"streams.{stream} names no column", fix="give a name or a pattern, such as audio_*")
        for pattern in each:
            matched = matches(pattern, names)
            if not matched:
                raise ConfigError(f"streams.{stream}: no column is named like {pattern!r}{nearest(pattern, names[:1000])}")
            mine = [name for name in matched if name in allowed]
            if not mine:
                raise ConfigError(f"streams.{stream}: of the columns named like {pattern!r} none is an input")
            for name in mine:
                if found.setdefault(name, stream) != stream:
                    raise ConfigError(
                        f"is in two groups, {found[name]!r} and {stream!r}",
                        column=name,
                        fix="patterns that share no column",
                    )
    return found


def hints(cells: Sequence[str], inputs: Sequence[str], told: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence on the groups that names suggest, with what to paste; none where the user has grouped columns.

    Args:
        cells: The inputs that are table cells.
        inputs: All inputs.
        told: What the user said of columns.
    """
    found = {} if any("stream" in spec for spec in told.values()) else proposals(cells, inputs)
    if not found:
        return []
    each = ", ".join(f"{len(matches(pattern, inputs)):,} begin with {pattern[:-1]}" for pattern in found.values())
    words = " ".join(
        quoting.option("--stream", f"{quoting.written(stream, '=.')}={quoting.written(pattern, ',')}")
        for stream, pattern in found.items()
    )
    return [
        f"columns seem to come in groups ({each}); as streams of their own, each is scored and explained apart: {words}"
    ]


def proposals(inputs: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Groups that the names of table cells suggest, as ``streams`` takes them; none where all would be in one.

    Args:
        inputs: The inputs that are table cells.
        names: All inputs: a pattern must stand for no other.
    """
    begun: dict[str, list[str]] = {}
    for name in inputs:
        start = _BEGINNING.match(name)
        if start is not None:
            begun.setdefault(start[0], []).append(name)
    large = {beginning: mine for beginning, mine in begun.items() if len(mine) >= MANY}
    if len(large) > PROPOSED:
        return {}
    found: dict[str, str] = {}
    for beginning, mine in large.items():
        if len(mine) < len(names) and matches(f"{beginning}*", names) == mine:
            found[re.sub(r"[_.:\-/ ]$", "", beginning)] = f"{beginning}*"
    return {} if set(found) & {*names, *SAID, "table"} else found

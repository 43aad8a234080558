"""Column groups: columns that form a stream of their own, selected by name patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sensorium.core import quoting
from sensorium.core.errors import ConfigError, nearest

MANY = 4
"""Columns with a common prefix from which a group is proposed."""
PROPOSED = 12
"""Most groups proposed; more indicate a naming scheme rather than groups."""
RESERVED_NAMES = ("seed", "version", "objectives")
"""Names that groups may not have on the command line, where ``seed=3`` sets a key of the recipe."""
_PREFIX = re.compile(r"(.+?)(?:[_.:\-/ ]|(?<=\D)(?=\d))")

Patterns = Mapping[str, str | Sequence[str]]


def matches(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the ``names`` that ``pattern`` matches (``*``: any characters, ``?``: one); an existing name, only itself."""
    if pattern in names:
        return [pattern]
    wild = {"*": ".*", "?": "."}
    expression = re.compile("".join(wild.get(letter, re.escape(letter)) for letter in pattern), re.DOTALL)
    return [name for name in names if expression.fullmatch(name)]


def groups(patterns: Patterns, names: Sequence[str], inputs: Iterable[str]) -> dict[str, str]:
    """Return the group of each grouped input column. Matching columns that are not inputs (targets, row ids) are skipped.

    Args:
        patterns: One or more name patterns by group.
        names: All columns of the table.
        inputs: The input columns.

    Raises:
        ConfigError: A pattern matches no input, or a column is in two groups.
    """
    allowed = set(inputs)
    group_of: dict[str, str] = {}
    for stream, value in patterns.items():
        members = [value] if isinstance(value, str) else list(value)
        if not members:
            raise ConfigError(f"streams.{stream} names no column", fix="give a name or a pattern, such as audio_*")
        for pattern in members:
            matched = matches(pattern, names)
            if not matched:
                raise ConfigError(f"streams.{stream}: no column matches {pattern!r}{nearest(pattern, names[:1000])}")
            selected = [name for name in matched if name in allowed]
            if not selected:
                raise ConfigError(f"streams.{stream}: no column that matches {pattern!r} is an input")
            for name in selected:
                if group_of.setdefault(name, stream) != stream:
                    raise ConfigError(
                        f"is in two groups, {group_of[name]!r} and {stream!r}",
                        column=name,
                        fix="patterns that share no column",
                    )
    return group_of


def hints(cells: Sequence[str], inputs: Sequence[str], specs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note on groups that the names suggest, with options to paste; none where the user has grouped columns.

    Args:
        cells: The inputs that are table cells.
        inputs: All inputs.
        specs: The user's column options.
    """
    suggested = {} if any("stream" in spec for spec in specs.values()) else proposals(cells, inputs)
    if not suggested:
        return []
    counts = ", ".join(f"{len(matches(pattern, inputs)):,} begin with {pattern[:-1]}" for pattern in suggested.values())
    options = " ".join(
        quoting.option("--stream", f"{quoting.written(stream, '=.')}={quoting.written(pattern, ',')}")
        for stream, pattern in suggested.items()
    )
    return [
        f"columns seem to come in groups ({counts}); as streams of their own, each is scored and explained separately: "
        f"{options}"
    ]


def proposals(inputs: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the groups that column names suggest, as patterns by group; none where all columns would be in one.

    Args:
        inputs: The inputs that are table cells.
        names: All inputs; a pattern must match no others.
    """
    by_prefix: dict[str, list[str]] = {}
    for name in inputs:
        match = _PREFIX.match(name)
        if match is not None:
            by_prefix.setdefault(match[0], []).append(name)
    frequent = {prefix: members for prefix, members in by_prefix.items() if len(members) >= MANY}
    if len(frequent) > PROPOSED:
        return {}
    suggested: dict[str, str] = {}
    for prefix, members in frequent.items():
        if len(members) < len(names) and matches(f"{prefix}*", names) == members:
            suggested[re.sub(r"[_.:\-/ ]$", "", prefix)] = f"{prefix}*"
    return {} if set(suggested) & {*names, *RESERVED_NAMES, "table"} else suggested

"""Filters of a search: ``price < 20 and colour = red``, a small grammar that is parsed and never evaluated as code.

    filter    = condition { "and" condition }
    condition = column operator value
    operator  = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~"

Columns and values stand as they are or in double quotes, as JSON writes text. Two numbers are compared as numbers, anything
else as text; ``~`` is whether a cell contains the value, whatever the case. A missing cell satisfies no condition.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.modality import is_blank

LONGEST = 2_000
"""Maximum number of characters of a filter."""
MAX_CONDITIONS = 50
EXAMPLE = "write COLUMN OPERATOR VALUE: 'price < 20 and colour = \"dark red\"'; operators: = != < <= > >= ~ (contains)"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_CONDITION = re.compile(
    rf"\s*(?P<column>{_QUOTED}|[^\s\"<>=!~]+(?:[^\S\n]+(?!and\s)[^\s\"<>=!~]+)*)"
    rf"\s*(?P<operator><=|>=|==|!=|=|<|>|~)\s*(?P<value>{_QUOTED}|[^\"\s<>=!~][^\"<>=!~]*?)\s*(?=$|\s+and\s)",
    re.IGNORECASE | re.DOTALL,
)
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition(NamedTuple):
    """One comparison of a filter: the column, the operator and the value, as text."""

    column: str
    operator: str
    value: str

    def holds(self, cell: Any) -> bool:
        """Whether ``cell`` satisfies the condition; an order needs two numbers."""
        if is_blank(cell):
            return False
        text = str(cell).strip()
        if self.operator == "~":
            return self.value.casefold() in text.casefold()
        own, wanted = _number(text), _number(self.value)
        if self.operator in _ORDER:
            return own is not None and wanted is not None and _ORDER[self.operator](own, wanted)
        equal = own == wanted if own is not None and wanted is not None else text == self.value
        return equal == (self.operator != "!=")


def parse_filter(text: str) -> list[Condition]:
    """Return the conditions of the filter ``text``, all of which a row must satisfy.

    Raises:
        ConfigError: The text is not a filter.
    """
    if len(text) > LONGEST:
        raise ConfigError(f"the filter has {len(text):,} characters, and {LONGEST:,} are read at most", fix=EXAMPLE)
    conditions: list[Condition] = []
    at = 0
    while True:
        match = _CONDITION.match(text, at)
        if match is None or len(conditions) == MAX_CONDITIONS:
            rest = text[at : at + 40].strip()
            raise ConfigError(f"cannot read the filter at {rest!r}" if rest else "the filter is incomplete", fix=EXAMPLE)
        column, sign, value = (_plain(match[name]) for name in ("column", "operator", "value"))
        if sign in _ORDER and _number(value) is None:
            raise ConfigError(f"the filter compares {column!r} {sign} {value!r}, which is not a number", fix=EXAMPLE)
        conditions.append(Condition(column, "=" if sign == "==" else sign, value))
        at = match.end()
        if not text[at:].strip():
            return conditions
        joint = _AND.match(text, at)
        assert joint is not None
        at = joint.end()


def select_rows(conditions: Sequence[Condition], cells: Mapping[str, Sequence[Any]], rows: int) -> NDArray[np.bool_]:
    """Return which of ``rows`` rows satisfy all ``conditions``; ``cells`` are their cells by column.

    Raises:
        ConfigError: A column is not among ``cells``, or has no number where an order asks for one.
    """
    chosen = np.ones(rows, dtype=bool)
    for condition in conditions:
        if condition.column not in cells:
            raise ConfigError(f"the index has no column {condition.column!r}{nearest(condition.column, cells)}")
        column = cells[condition.column]
        if condition.operator in _ORDER and rows and all(is_blank(c) or _number(str(c)) is None for c in column):
            raise ConfigError(f"has no numbers, which {condition.operator} compares", column=condition.column, fix=EXAMPLE)
        chosen &= np.fromiter((condition.holds(cell) for cell in column), dtype=bool, count=rows)
    return chosen


def _plain(text: str) -> str:
    text = text.strip()
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        raise ConfigError(f"cannot read {text[:40]} in the filter", fix=EXAMPLE) from None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

"""Categories."""

from __future__ import annotations

import numbers
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError, nearest
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component
from sensorium.language.numeral import read_number

_WHOLE = re.compile(r"([+-]?[0-9]+)\.0+")


@component
class Category(Modality):
    """One of a few values: a colour, a breed, yes or no.

    Encoded as ``[1]`` float32: 0 for a value not seen in training, 1 .. n for the known ones. As a target it is the index
    of its class, 0 .. n - 1, and an unseen value is an error. ``1``, ``1.0`` and ``"1"`` are the same value.

    Args:
        min_count: Values seen less often in training count as unknown.
        max_values: At most so many values are known, the most frequent first.
    """

    stream = "table"
    classed = True
    task = "classification"
    widget = "choice"
    corruptions = ("wrong",)

    def __init__(self, *, min_count: int = 1, max_values: int = 1000) -> None:
        super().__init__()
        if min_count < 1 or max_values < 1:
            raise ConfigError(f"category: min_count ({min_count}) and max_values ({max_values}) are 1 or more")
        self.min_count, self.max_values = min_count, max_values
        self._index: tuple[list[str], dict[str, int]] = ([], {})

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        values = [value for value in map(_canonical, cells) if value is not None]
        if not values or len(values) < len(cells):
            return Guess(0.0, "some cells are no single value")
        distinct = len(set(values))
        reason = f"{distinct} different values in {len(cells)} cells"
        if distinct <= 2 and (len(cells) >= 8 or all(isinstance(cell, (bool, np.bool_)) for cell in cells)):
            return Guess(0.95, reason)
        repeated = 1 - distinct / len(values)
        if sum(read_number(value) is not None for value in values) > 0.9 * len(values):
            codes = all(value.isdigit() for value in values) and any(len(v) > 1 and v[0] == "0" for v in values)
            few = codes or (distinct <= 20 and repeated >= 0.8)
            return Guess((0.7 if codes else 0.5) * repeated if few else 0.05, reason)
        words = sum(_words(value) for value in values) / len(values)
        # Sentences repeat too (questions, templates): many different long ones are text all the same.
        if words >= 4 and distinct > 20:
            return Guess(0.3 * repeated, f"{reason}, of {words:.0f} words on average")
        if distinct <= 20 and repeated >= 0.5:
            return Guess(0.9, reason)
        return Guess(min(0.9, 0.1 + 1.2 * repeated), reason)

    def fit(self, cells: Iterable[Any]) -> None:
        counts = Counter(value for value in map(_canonical, cells) if value is not None)
        often = [(value, count) for value, count in counts.items() if count >= self.min_count]
        often.sort(key=lambda pair: (-pair[1], _order(pair[0])))
        self.state = {"values": sorted((value for value, _ in often[: self.max_values]), key=_order)}

    @property
    def classes(self) -> list[str]:
        """The known values, in the order of their class indices."""
        return list(self.state["values"])

    @property
    def layout(self) -> Layout:
        return Row((len(self.state["values"]) + 1,))

    def encode(self, cell: Any) -> Array:
        return np.array([self._code(_value(cell))], dtype=np.float32)

    def encode_target(self, cell: Any) -> Array:
        code = self._code(_value(cell))
        if code == 0:
            raise CellError(
                f"{str(cell)[:60]!r} was not seen in training{nearest(str(cell)[:60], self.classes[:50])}",
                fix="correct the cell, or add rows with this value to the training table",
            )
        return np.array([code - 1], dtype=np.float32)

    def decode(self, value: Array) -> str:
        return str(self.state["values"][int(np.asarray(value).reshape(-1)[0])])

    def blank(self) -> Array:
        return np.zeros(1, dtype=np.float32)

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        """Another of the known values, in a share ``level`` of the cells; unknown where there is no other."""
        chance, step = rng.random(2)
        known, code = len(self.state["values"]), int(value[0])
        if chance >= level:
            return value
        if known < 2 or code == 0:
            return np.array([0 if code else min(known, 1 + int(step * known))], dtype=np.float32)
        return np.array([1 + (code + int(step * (known - 1))) % known], dtype=np.float32)

    def _code(self, value: str) -> int:
        values, codes = self._index
        if values is not self.state["values"]:
            values = self.state["values"]
            codes = {known: i for i, known in enumerate(values, start=1)}
            self._index = (values, codes)
        return codes.get(value, 0)


def _canonical(cell: Any) -> str | None:
    """The value a cell stands for; None where it is no single value."""
    if isinstance(cell, str):
        whole = _WHOLE.fullmatch(cell.strip())
        return whole[1] if whole else cell.strip()
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell))
    if isinstance(cell, numbers.Real) or type(cell).__name__ == "Decimal":
        try:
            value = float(cell)
        except OverflowError:  # a whole number of hundreds of digits
            return None
        return str(int(cell)) if value.is_integer() else str(value)
    if isinstance(cell, (bytes, list, tuple, dict, set)) or hasattr(cell, "__array__"):
        return None
    return str(cell).strip()


def _value(cell: Any) -> str:
    value = _canonical(cell)
    if value is None:
        raise CellError(f"a {type(cell).__name__} is not one value of a category")
    return value


def _order(value: str) -> tuple[bool, float, str]:
    number = read_number(value)
    return (number is None, number or 0.0, value)


def _words(text: str) -> int:
    return len(text[:2000].split())

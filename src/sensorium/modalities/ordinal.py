"""Ordered categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality, is_blank
from sensorium.core.registry import component
from sensorium.language.category_values import answer_type, fold_label, label, same_number, to_python
from sensorium.language.numbers import read_number


@component
class Ordinal(Modality):
    """One of a few ordered values: stars, grades, stages of an illness, from poor to good.

    Numbers are sorted by value; other values need ``order``. As an input it is one number, ``[1]`` float32: the rank,
    standardised over the training cells. As a target it is the class index, 0 .. n - 1, and the task is ``ordinal``. A
    value not seen in training raises ``CellError``. Never guessed: set it with ``--as stars=ordinal``.

    Args:
        order: All values from lowest to highest, separated by commas (``poor, fair, good``), or by ``<`` if values contain
            commas. Case and blanks do not matter. A value listed here is never missing (``none, some, much``).
    """

    stream = "table"
    classed = True
    single = True
    task = "ordinal"
    widget = "choice"
    corruptions = ("wrong",)

    def __init__(self, *, order: str = "") -> None:
        super().__init__()
        self.order = order
        self.named = [name.strip() for name in order.split("<" if "<" in order else ",")] if order else []
        keys = [fold_label(name) for name in self.named]
        if order and (len(keys) < 2 or "" in keys or len(set(keys)) < len(keys)):
            raise ConfigError(
                f"order is {order!r}: it names at least two different values", fix='write order: "poor, fair, good"'
            )
        self._keys = frozenset(keys)
        self._known: tuple[list[str], dict[str, int], dict[float, int]] = ([], {}, {})

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "only as specified: cells do not show that their values are ordered")

    def missing(self, cell: Any) -> bool:
        if isinstance(cell, str) and cell.strip() and fold_label(cell) in self._keys:
            return False
        return is_blank(cell)

    def fit(self, cells: Iterable[Any]) -> None:
        counts: Counter[str] = Counter()
        texts = False
        for cell in cells:
            value = label(cell)
            if value is not None:
                counts[value] += 1
                texts = texts or isinstance(cell, str)
        values = self.named or self._sorted(counts)
        self.state = {"values": values, "type": answer_type(values, bool(self.named) or texts)}
        ranked = ((self._rank(value), count) for value, count in counts.items())
        ranks = np.repeat(*np.array([pair for pair in ranked if pair[0] is not None] or [(0, 1)], dtype=np.int64).T)
        self.state |= {"mean": float(ranks.mean()), "deviation": float(ranks.std()) or 1.0}

    def _sorted(self, counts: Counter[str]) -> list[str]:
        """Return the values sorted numerically; different spellings of a number are merged."""
        numbers: dict[float, str] = {}
        for value in sorted(counts, key=lambda value: (-counts[value], value)):
            number = read_number(value)
            if number is None:
                examples = ", ".join(sorted(counts)[:5])
                raise ConfigError(
                    f"{value[:60]!r} is not a number, and the order of the values is not given",
                    fix=f'kind: ordinal, order: "{examples}", from the lowest to the highest',
                )
            numbers.setdefault(number, value)
        return [numbers[number] for number in sorted(numbers)]

    @property
    def classes(self) -> list[str]:
        """The values from lowest to highest."""
        return list(self.state["values"])

    @property
    def in_order(self) -> bool:
        return True

    @property
    def doubts(self) -> list[str]:
        numbers = [read_number(value) for value in self.state["values"]] if not self.named else []
        integers = [int(number) for number in numbers if number is not None and number.is_integer()]
        absent = (
            sorted(set(range(integers[0], integers[-1] + 1)) - set(integers)) if 1 < len(integers) == len(numbers) else []
        )
        if not absent or len(absent) > len(integers):
            return []
        examples = ", ".join(map(str, absent[:5]))
        return [f"no training cell is {examples}, so it is not a class; to include it, name all values with order"]

    @property
    def layout(self) -> Layout:
        return Row((0,))

    def encode(self, cell: Any) -> Array:
        return self._placed(self._index(cell))

    def encode_target(self, cell: Any) -> Array:
        return np.array([self._index(cell)], dtype=np.float32)

    def decode(self, value: Array) -> str | int | float | bool:
        """Return the class label, of the type that the training labels had; ``value`` is its index."""
        return to_python(self.state["values"][int(np.asarray(value).reshape(-1)[0])], self.state["type"])

    def blank(self) -> Array:
        return np.zeros(1, dtype=np.float32)

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        """Replace a share ``level`` of the cells by another known value."""
        chance, step = rng.random(2)
        known = len(self.state["values"])
        if chance >= level or known < 2:
            return value
        rank = round(float(value[0]) * self.state["deviation"] + self.state["mean"])
        return self._placed((rank + 1 + int(step * (known - 1))) % known)

    def _placed(self, rank: int) -> Array:
        return np.array([(rank - self.state["mean"]) / self.state["deviation"]], dtype=np.float32)

    def _index(self, cell: Any) -> int:
        value = label(cell)
        if value is None:
            raise CellError(f"a {type(cell).__name__} is not one value of a scale")
        rank = self._rank(value)
        if rank is None:
            values = self.state["values"]
            scale = ", ".join(values[:8]) + (", ..." if len(values) > 8 else "")
            raise CellError(
                f"{value[:60]!r} is not on the scale: {scale}", fix="correct the cell, or name all values: order"
            )
        return rank

    def _rank(self, value: str) -> int | None:
        values = self.state["values"]
        if self._known[0] is not values:
            self._known = (values, {fold_label(name): i for i, name in enumerate(values)}, same_number(values))
        _, codes, numbers = self._known
        code = codes.get(fold_label(value))
        if code is not None or not numbers:
            return code
        number = read_number(value)
        return None if number is None else numbers.get(number)

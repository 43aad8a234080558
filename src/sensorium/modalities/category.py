"""Categorical values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality, is_blank
from sensorium.core.registry import component
from sensorium.core.scalars import plain
from sensorium.language.category_values import (
    answer_type,
    commonest,
    fold_label,
    label,
    nearest_label,
    same_number,
    similar_groups,
    to_python,
)
from sensorium.language.numbers import detect_format, read_number

_TRUTH = {"1": "True", "0": "False"}


class _Index(NamedTuple):
    """Lookup of known values (1 .. n) by text, by number, and by case-folded text for suggestions."""

    values: list[str]
    codes: dict[str, int]
    numbers: dict[float, int]
    folded: dict[str, str]


@component
class Category(Modality):
    """One of a fixed set of values: a colour, a breed, yes or no.

    Encoded as ``[1]`` float32: 0 for a value not seen in training, 1 .. n for known values. As a target it is the class
    index, 0 .. n - 1, and an unseen value is an error. ``1``, ``1.0`` and ``"1"`` are the same value. ``decode`` returns
    labels of the type the training labels had: integers, booleans or text. Labels read from text count as integers if all
    are written as Python writes them (``0``, ``-3``, not ``01``), and as booleans if all are true or false.

    Args:
        min_count: Values seen less often in training count as unknown.
        max_values: Maximum number of known values, the most frequent first.
        fold: Whether values that differ only in case, blanks or Unicode form are merged, under their most frequent
            spelling.
        gaps: Whether texts such as ``None`` and ``NA`` are ``missing`` values or are kept as values (``keep``).
    """

    stream = "table"
    classed = True
    single = True
    task = "classification"
    widget = "choice"
    corruptions = ("wrong",)

    def __init__(
        self,
        *,
        min_count: int = 1,
        max_values: int = 1000,
        fold: bool = False,
        gaps: Literal["missing", "keep"] = "missing",
    ) -> None:
        super().__init__()
        if min_count < 1 or max_values < 1:
            raise ConfigError(f"category: min_count ({min_count}) and max_values ({max_values}) are 1 or more")
        self.min_count, self.max_values, self.fold, self.gaps = min_count, max_values, fold, gaps
        self._index = _Index([], {}, {}, {})

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        values = [value for value in map(label, cells) if value is not None]
        if not values or len(values) < len(cells):
            return Guess(0.0, "some cells are no single value")
        distinct = len(set(values))
        reason = f"{distinct} different values in {len(cells)} cells"
        if distinct <= 2 and (len(cells) >= 8 or all(isinstance(cell, (bool, np.bool_)) for cell in cells)):
            return Guess(0.95, reason)
        repeated = 1 - distinct / len(values)
        writing, _ = detect_format(values)
        if sum(read_number(value, writing) is not None for value in values) > 0.9 * len(values):
            digits = all(value.isdigit() for value in values)
            if digits and any((len(v) > 1 and v[0] == "0") or len(v) > 16 for v in values):
                return Guess(0.45 + 0.4 * repeated, f"{reason}, codes of digits")
            return Guess(0.5 * repeated if distinct <= 20 and repeated >= 0.8 else 0.05, reason)
        words = sum(_words(value) for value in values) / len(values)
        # Sentences may repeat too (questions, templates): many distinct long values are text.
        if words >= 4 and distinct > 20:
            return Guess(0.3 * repeated, f"{reason}, of {words:.0f} words on average")
        if distinct <= 20 and repeated >= 0.5:
            return Guess(0.9, reason)
        return Guess(min(0.9, 0.1 + 1.2 * repeated), reason)

    def missing(self, cell: Any) -> bool:
        if self.gaps == "keep" and isinstance(cell, str) and cell.strip():
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
        if self.fold:
            counts = _merged(counts)
        kind = answer_type(counts, texts)
        if kind == "bool":
            truths, counts = counts, Counter()
            for value, count in truths.items():
                counts[value.title()] += count
        often = [(value, count) for value, count in counts.items() if count >= self.min_count]
        often.sort(key=lambda pair: (-pair[1], _order(pair[0])))
        values = sorted((value for value, _ in often[: self.max_values]), key=_order)
        self.state = {"values": values, "type": kind}

    @property
    def doubts(self) -> list[str]:
        groups = [] if self.fold else similar_groups(self.state["values"])
        if not groups:
            return []
        examples = "; ".join(" and ".join(repr(value) for value in group) for group in groups[:4])
        rest = f" (and {len(groups) - 4} more)" if len(groups) > 4 else ""
        return [f"values that differ in case, blanks or Unicode form only: {examples}{rest}; fold: true makes one of each"]

    @property
    def classes(self) -> list[str]:
        """The known values, in the order of their class indices."""
        return list(self.state["values"])

    @property
    def in_order(self) -> bool:
        """Whether all values are numbers, in which case they are sorted numerically."""
        return all(read_number(value) is not None for value in self.state["values"])

    @property
    def layout(self) -> Layout:
        return Row((len(self.state["values"]) + 1,))

    def encode(self, cell: Any) -> Array:
        return np.array([self._code(_value(cell))], dtype=np.float32)

    def encode_target(self, cell: Any) -> Array:
        value = _value(cell)
        code = self._code(value)
        if code == 0:
            raise CellError(self._unknown(value), fix="correct the cell, or add rows with this value to the training table")
        return np.array([code - 1], dtype=np.float32)

    def unfamiliar(self, cell: Any) -> str:
        value = label(cell)
        return "" if value is None or self._code(value) else self._unknown(value)

    def decode(self, value: Array) -> str | int | float | bool:
        """Return the class label, of the type that the training labels had; ``value`` is its index."""
        return to_python(self.state["values"][int(np.asarray(value).reshape(-1)[0])], self.state.get("type", "str"))

    def blank(self) -> Array:
        return np.zeros(1, dtype=np.float32)

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        """Replace a share ``level`` of the cells by another known value; by unknown where there is no other."""
        chance, step = rng.random(2)
        known, code = len(self.state["values"]), int(value[0])
        if chance >= level:
            return value
        if known < 2 or code == 0:
            return np.array([0 if code else min(known, 1 + int(step * known))], dtype=np.float32)
        return np.array([1 + (code + int(step * (known - 1))) % known], dtype=np.float32)

    def _known(self) -> _Index:
        if self._index.values is not self.state["values"]:
            values = self.state["values"]
            codes = {fold_label(known) if self.fold else known: i for i, known in enumerate(values, start=1)}
            self._index = _Index(values, codes, same_number(values), {})
        return self._index

    def _code(self, value: str) -> int:
        index = self._known()
        code = index.codes.get(fold_label(value) if self.fold else value, 0)
        if code:
            return code
        kind = self.state.get("type", "str")
        if kind == "bool":
            return index.codes.get(_TRUTH.get(value, value.title()), 0)
        if kind == "int" and value in ("True", "False"):
            return index.codes.get("1" if value == "True" else "0", 0)
        # A library that parsed the column as numbers may have written 1.50 as 1.5, and 02139 as 2139.
        number = read_number(value) if index.numbers and value[-1:].isdigit() and "," not in value else None
        return index.numbers.get(number, -1) + 1 if number is not None else 0

    def _unknown(self, value: str) -> str:
        index = self._known()
        if not index.folded:
            index.folded.update((fold_label(known), known) for known in index.values)
        message = f"{value[:60]!r} was not seen in training"
        if close := nearest_label(value[:60], index.folded):
            return f"{message}; did you mean {close!r}?"
        return f"{message}; there are: {', '.join(index.values)}" if len(index.values) <= 8 else message


def _merged(counts: Counter[str]) -> Counter[str]:
    """Merge the counts of values with the same case-folded form, under the most frequent spelling."""
    groups: dict[str, Counter[str]] = {}
    for value, count in counts.items():
        groups.setdefault(fold_label(value), Counter())[value] += count
    names = {key: commonest(group) for key, group in groups.items()}
    return Counter({names[key]: group.total() for key, group in groups.items()})


def _value(cell: Any) -> str:
    value = label(cell)
    if value is None:
        raise CellError(f"a {type(plain(cell)).__name__} is not one value of a category")
    return value


def _order(value: str) -> tuple[bool, float, str]:
    number = read_number(value)
    return (number is None, number or 0.0, value)


def _words(text: str) -> int:
    return len(text[:2000].split())

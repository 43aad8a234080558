"""Sets of labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality, is_blank
from sensorium.core.registry import component
from sensorium.core.scalars import plain
from sensorium.language.category_values import fold_label, label, nearest_label, similar_groups
from sensorium.language.numbers import read_number

_SEPARATORS = (";", "|", ",")
_LISTS = (list, tuple, set, frozenset, np.ndarray)


@component
class Tags(Modality):
    """Any number of labels from a known set: genres, symptoms, ``sun;sea;sand``.

    A cell is text with ``;``, ``|`` or ``,`` between the labels, a list, or a JSON list. Encoded as ``[k]`` float32, 1
    where
    a label is present. An unknown label is ignored in an input and an error in a target.

    Args:
        separator: Separator between labels; None: the most frequent one in the training cells.
        max_values: Maximum number of known labels, the most frequent first.
    """

    stream = "table"
    classed = True
    task = "multilabel"
    corruptions = ("wrong",)

    def __init__(self, *, separator: str | None = None, max_values: int = 256) -> None:
        super().__init__()
        if separator == "" or max_values < 1:
            raise ConfigError("tags: separator is one character or more, and max_values 1 or more")
        self.separator, self.max_values = separator, max_values

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        mark = _separator(cells)
        rows = [_split(cell, mark) for cell in cells]
        labels = [label for row in rows for label in row or ()]
        many = sum(row is not None and len(row) > 1 for row in rows)
        if None in rows or len(labels) < 2 or many == 0:
            return Guess(0.0, "no cell has several labels")
        distinct = len(set(labels))
        words = sum(len(label.split()) for label in labels) / len(labels)
        numeric = sum(read_number(label) is not None for label in labels) / len(labels)
        lists = all(isinstance(cell, _LISTS) or _json(cell) is not None for cell in cells)
        reason = f"{many} of {len(cells)} cells have several of {distinct} labels"
        if words > 3 or numeric > 0.5 or any(len(label) > 60 for label in labels):
            return Guess(0.0, f"the parts between {mark!r} are no short labels")
        if lists:
            return Guess(0.9, reason)
        # Labels recur in other rows, parts of sentences do not. A comma alone is weak evidence.
        repeated = 1 - distinct / len(labels)
        return Guess((0.96 if mark != "," else 0.92) * min(1.0, 1.5 * repeated) * min(1.0, 2.5 * many / len(cells)), reason)

    def fit(self, cells: Iterable[Any]) -> None:
        training_cells = list(cells)
        mark = self.separator or _separator(training_cells)
        counts = Counter(label for cell in training_cells for label in set(_split(cell, mark) or ()))
        often = sorted(counts, key=lambda label: (-counts[label], label))[: self.max_values]
        self.state = {"separator": mark, "values": sorted(often)}

    @property
    def classes(self) -> list[str]:
        """The known labels, in the order of the encoded vector."""
        return list(self.state["values"])

    @property
    def layout(self) -> Layout:
        return Row((0,) * len(self.state["values"]))

    def encode(self, cell: Any) -> Array:
        labels = self._labels(cell)
        return np.array([value in labels for value in self.state["values"]], dtype=np.float32)

    def encode_target(self, cell: Any) -> Array:
        unknown = self._unknown(self._labels(cell))
        if unknown:
            raise CellError(unknown, fix="correct the cell, or add rows with this label to the training table")
        return self.encode(cell)

    def unfamiliar(self, cell: Any) -> str:
        return self._unknown(set(_split(cell, self.state["separator"]) or ()))

    @property
    def doubts(self) -> list[str]:
        groups = similar_groups(self.state["values"])
        examples = "; ".join(" and ".join(repr(value) for value in group) for group in groups[:4])
        return (
            [f"labels that differ in case, blanks or Unicode form only: {examples}; write each one way"] if groups else []
        )

    def decode(self, value: Array) -> list[str]:
        """Return the labels whose ``value`` (``[k]``) is above one half."""
        return [name for name, on in zip(self.state["values"], np.asarray(value).reshape(-1), strict=True) if on > 0.5]

    def blank(self) -> Array:
        return np.zeros(len(self.state["values"]), dtype=np.float32)

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        """Flip each label with probability ``level / 2``: at level 1 no information is left."""
        return np.where(rng.random(len(value)) < level / 2, 1 - value, value).astype(np.float32)

    def _labels(self, cell: Any) -> set[str]:
        labels = _split(cell, self.state["separator"])
        if labels is None:
            raise CellError(f"a {type(cell).__name__} is not a list of labels", fix=f"write a{self.state['separator']}b")
        return set(labels)

    def _unknown(self, labels: set[str]) -> str:
        unknown = sorted(labels - set(self.state["values"]))
        if not unknown:
            return ""
        close = nearest_label(unknown[0][:60], {fold_label(known): known for known in self.state["values"]})
        message = f"the label {unknown[0][:60]!r} was not seen in training"
        return f"{message}; did you mean {close!r}?" if close else message


def _json(cell: Any) -> list[Any] | None:
    if not isinstance(cell, str) or not cell.lstrip().startswith("["):
        return None
    try:
        parsed = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, list) else None


def _split(cell: Any, mark: str) -> list[str] | None:
    """Split a cell into labels; None where it cannot be a list of labels."""
    cell = plain(cell)
    parts = _json(cell)
    if parts is None and isinstance(cell, _LISTS):
        parts = list(cell.reshape(-1)) if isinstance(cell, np.ndarray) else list(cell)
    elif parts is None and hasattr(cell, "__array__") and hasattr(cell, "tolist"):
        parts = cell.tolist()  # a pandas or polars Series, an Arrow array
    if parts is not None:
        parts = [part for part in parts if not is_blank(part)]
        labels = [label(part) for part in parts] if isinstance(parts, list) else [None]
        return None if None in labels else [text for text in labels if text]
    if isinstance(cell, (bytes, dict)) or hasattr(cell, "__array__"):
        return None
    return [text for text in (label(part) or "" for part in str(cell).split(mark)) if text]


def _separator(cells: Iterable[Any]) -> str:
    """Return the separator that occurs in most cells; on ties, the less common character."""
    counts = Counter(mark for cell in cells if isinstance(cell, str) for mark in _SEPARATORS if mark in cell)
    return max(_SEPARATORS, key=lambda mark: counts[mark])

"""Keys: identifiers by which rows are distinguished or matched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component
from sensorium.language.category_values import label

PARTS = 2
"""Numbers of a key. Together they have 48 bits: of 100,000 different keys, two are equal with probability 0.00002."""
STEPS = 1 << 24
"""Values of each number: as many as float32 holds exactly between 0 and 1."""


@component
class Key(Modality):
    """A key: a product number, a group, a file name. Cells are equal or different; nothing else about them is used.

    Unlike a category it has no fixed set of values: cells that training did not have are distinguished too. Tasks read it
    as a prompt, such as ``same`` of the task retrieval. ``1``, ``1.0`` and ``"1"`` are the same key. A media cell has
    its file name as key, bytes their content. Encoded as ``[2]`` float32 in 0 to 1, a digest. Never guessed: set it
    with ``--as product=key``.
    """

    widget = "text"

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "only as specified: cells do not show that they are keys")

    def fit(self, cells: Iterable[Any]) -> None:
        return

    @property
    def layout(self) -> Layout:
        return Row((0,) * PARTS)

    def encode(self, cell: Any) -> Array:
        data = cell if isinstance(cell, bytes) else None
        if data is None:
            text = label(cell)
            if text is None:
                raise CellError(f"a {type(cell).__name__} is not a key", fix="give a text, a number or bytes")
            data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, digest_size=3 * PARTS).digest()
        parts = [int.from_bytes(digest[3 * i : 3 * i + 3], "big") for i in range(PARTS)]
        return (np.array(parts, dtype=np.float64) / STEPS).astype(np.float32)

    def blank(self) -> Array:
        return np.zeros(PARTS, dtype=np.float32)

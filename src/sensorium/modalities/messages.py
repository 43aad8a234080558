"""Message cells: texts and conversations of a language model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Ids, Layout
from sensorium.core.messages import Message, pack, read, unpack
from sensorium.core.modality import Array, Guess, Modality, is_blank
from sensorium.core.registry import component
from sensorium.core.scalars import plain

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_BYTES_A_CHARACTER = 8  # of UTF-8 and of escapes in JSON


@component
class Messages(Modality):
    """A question, an answer, or a conversation of several turns with a language model.

    A cell is a text; several equally valid texts, ``["a cat", "cat"]``; or turns,
    ``[{"role": "user", "content": "Who is this?"}, ...]``. Never guessed: the task ``conversation`` reads its prompt and
    its target as this kind. Encoded unchanged as ``[N]`` bytes of UTF-8; the tokeniser of the language model splits it
    into tokens.

    Args:
        length: Maximum number of characters of a cell. Longer cells are refused, since truncation alters their meaning.
    """

    ragged = True
    task = "conversation"
    checked = True

    def __init__(self, *, length: int = 20_000) -> None:
        super().__init__()
        if length < 1:
            raise ConfigError(f"messages: length is {length}", fix="1 or more")
        self.length = length

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "taken only as prompt or target of a task with a language model")

    def fit(self, cells: Iterable[Any]) -> None:
        """Do nothing: there is nothing to learn from ``cells``."""

    @property
    def layout(self) -> Layout:
        return Ids(256, _BYTES_A_CHARACTER * self.length)

    def missing(self, cell: Any) -> bool:
        """Whether ``cell`` is missing; ``none`` may be an answer."""
        return is_blank(cell) and not (isinstance(cell, str) and cell.strip().lower() == "none")

    def encode(self, cell: Any) -> Array:
        value = read(plain(cell))
        if value is None:
            raise CellError(f"a {type(cell).__name__} is neither a text nor a conversation")
        texts = [value] if isinstance(value, str) else [x.text if isinstance(x, Message) else x for x in value]
        size = sum(map(len, texts))
        if size > self.length:
            raise CellError(
                f"it has {size:,} characters; the maximum is {self.length:,}", fix="a larger length of the column"
            )
        if not any(text.strip() for text in texts):
            raise CellError("the text has no visible character")
        return np.frombuffer(pack(value), dtype=np.uint8).copy()

    def blank(self) -> Array:
        return np.zeros(0, dtype=np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Return bytes ``[B, N]`` int64, 0 where padded."""
        data = field.data.long()
        return replace(field, data=data if field.mask is None else data.masked_fill(~field.mask, 0))

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """Return bytes ``[B, N]`` int64, as for a prompt."""
        return self.prepare(field)

    def decode(self, value: Array) -> str | list[Any]:
        """Return the text, the texts or the turns (as mappings) of the bytes ``value``."""
        content = unpack(bytes(int(i) & 255 for i in value))
        if isinstance(content, str):
            return content
        return [{"role": m.role, "content": m.text} if isinstance(m, Message) else m for m in content]

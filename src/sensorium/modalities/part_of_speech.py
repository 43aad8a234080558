"""Parts of speech."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.layout import Ids, Layout
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component
from sensorium.language.normalisation import normalise
from sensorium.language.part_of_speech import TAGS, tag

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_IDS = {name: i for i, name in enumerate(TAGS, start=1)}
_CHARACTERS_A_WORD = 32


@component
class PartOfSpeech(Modality):
    """Part-of-speech tags of a text's words (noun, verb, adjective), as a second stream beside the text.

    Never guessed: set it on a copy of the text column, ``--as note_pos=part_of_speech``. English is tagged by rules,
    Chinese by jieba (``sensorium[zh]``). Encoded as ``[N]`` uint8: 0 is padding, then the universal tags in the order of
    ``language.part_of_speech.TAGS``.

    Args:
        length: Maximum number of words per cell; the rest is cut.
        marks: Whether punctuation and symbols count as words.
    """

    ragged = True

    def __init__(self, *, length: int = 256, marks: bool = True) -> None:
        super().__init__()
        self.length, self.marks = length, marks

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "taken only where asked for")

    def fit(self, cells: Iterable[Any]) -> None:
        self.state = {}

    @property
    def layout(self) -> Layout:
        return Ids(len(TAGS) + 1, self.length)

    def encode(self, cell: Any) -> Array:
        if not isinstance(cell, str):
            raise CellError(f"a {type(cell).__name__} is not text")
        # Case is kept: proper names are recognised by their capitals.
        text = normalise(cell.lstrip()[: self.length * _CHARACTERS_A_WORD], lowercase=False)
        tags = [name for _, name in tag(text) if self.marks or name not in ("PUNCT", "SYM")]
        if not tags:
            raise CellError("the text has no word")
        return np.array([_IDS[name] for name in tags[: self.length]], dtype=np.uint8)

    def blank(self) -> Array:
        return np.zeros(0, dtype=np.uint8)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Return tag ids ``[B, N]`` int64."""
        return replace(field, data=field.data.long())

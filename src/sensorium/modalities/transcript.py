"""Transcripts: the words along a recording or a line of writing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Ids, Layout
from sensorium.core.modality import Array, Guess, Modality, is_blank
from sensorium.core.registry import component
from sensorium.core.scalars import plain
from sensorium.language.normalisation import normalise
from sensorium.language.tokeniser import UNSPACED, Kind, Tokeniser
from sensorium.signal.running_moments import subsampled

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_TRAINING_CELLS = 100_000
_CHARACTERS_A_UNIT = 16
_FEW_WORDS, _FREQUENT = 256, 5
_LONG_TEXTS = 200_000
_SUBWORDS = 500
# An apostrophe or a hyphen within a word is a part of it; other punctuation and symbols cannot be heard.
_SILENT = re.compile(r"[^\w\s'’\-]|(?<!\w)['’\-]+|['’\-]+(?!\w)|_")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_KINDS: dict[str, Kind] = {"words": "word", "characters": "character", "subwords": "bpe"}


@component
class Transcript(Modality):
    """The words spoken in a recording or a video, or written along a line: the target of ``transcription``.

    Never guessed: the task reads its target as this kind. Encoded as ``[N]`` int32 ids of units: 0 is padding, 1 a unit
    that is not in the training cells. Punctuation is left out, since it cannot be heard.

    Args:
        units: What is recognised one after the other: ``words``, ``characters`` or ``subwords``. ``auto``: words if there
            are at most 256 and each occurs five times or more; otherwise characters, or subwords for more than 200,000
            characters of text with blanks.
        vocabulary: Maximum number of units; None: 500 subwords, and every word or character.
        length: Maximum number of units of a transcript; the rest is cut.
        lowercase: Whether transcripts are lower-cased, and so recognised.
        punctuation: Whether punctuation is kept, to be recognised like any other unit.
    """

    ragged = True
    task = "transcription"
    checked = True
    lies_on = ("audio", "line", "series", "video", "images")
    lies_along = True

    def __init__(
        self,
        *,
        units: Literal["auto", "words", "characters", "subwords"] = "auto",
        vocabulary: int | None = None,
        length: int = 400,
        lowercase: bool = True,
        punctuation: bool = False,
    ) -> None:
        super().__init__()
        if (vocabulary is not None and vocabulary < 3) or length < 1:
            raise ConfigError("transcript: vocabulary is 3 or more, length 1 or more")
        self.units, self.vocabulary, self.length = units, vocabulary, length
        self.lowercase, self.punctuation = lowercase, punctuation
        self._loaded: tuple[dict[str, Any], Tokeniser] | None = None

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "taken only as the target of a task that transcribes")

    def fit(self, cells: Iterable[Any]) -> None:
        texts = subsampled((text for cell in cells if (text := self._text(cell))), _TRAINING_CELLS)
        units, reason = (self.units, "as specified") if self.units != "auto" else _suited(texts)
        most = self.vocabulary or (_SUBWORDS if units == "subwords" else 1 << 20)
        learnt = Tokeniser.train(texts, _KINDS[units], most)
        self.state = {"tokeniser": learnt.to_json(), "units": units, "reason": reason}

    def notes(self) -> str:
        if "units" not in self.state:
            return ""
        return f"{self.tokeniser.size - 2:,} {self.state['units']} are recognised ({self.state['reason']})"

    @property
    def layout(self) -> Layout:
        return Ids(self.tokeniser.size, self.length, pieces=self.tokeniser.pieces)

    @property
    def recognises(self) -> str:
        """What the units are: words, characters or subwords."""
        return str(self.state["units"])

    def missing(self, cell: Any) -> bool:
        """Whether ``cell`` is missing; the text ``none`` is valid content."""
        return is_blank(cell) and not (isinstance(cell, str) and cell.strip().lower() in ("none", "null", "nil", "na"))

    def encode(self, cell: Any) -> Array:
        text = self._text(cell)
        if text is None:
            raise CellError(f"a {type(plain(cell)).__name__} is not text")
        if not text:
            raise CellError("the transcript has no letter and no digit")
        return np.array(self.tokeniser.encode(text)[: self.length], dtype=np.int32)

    def blank(self) -> Array:
        return np.zeros(0, dtype=np.int32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Return ids ``[B, N]`` int64, 0 where padded."""
        data = field.data.long()
        return replace(field, data=data if field.mask is None else data.masked_fill(~field.mask, 0))

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """Return ids ``[B, N]`` int64: they have no places of their own, so nothing of ``on`` changes them."""
        return self.prepare(field)

    def decode(self, value: Array) -> str:
        """Return the text of the ids ``value``."""
        return self.tokeniser.decode([int(i) for i in value])

    @property
    def tokeniser(self) -> Tokeniser:
        """The units, as fitted."""
        data = self.state["tokeniser"]
        if self._loaded is None or self._loaded[0] is not data:
            self._loaded = (data, Tokeniser.from_json(data))
        return self._loaded[1]

    def _text(self, cell: Any) -> str | None:
        """Return the normalised text of a cell; None where it is not text."""
        cell = plain(cell)
        if isinstance(cell, (int, float)) and not isinstance(cell, bool):
            cell = str(cell)  # a column of digits that were read out
        if not isinstance(cell, str):
            return None
        text = normalise(cell[: self.length * _CHARACTERS_A_UNIT], lowercase=self.lowercase)
        return text if self.punctuation else " ".join(_SILENT.sub(" ", text).split())


def _suited(texts: Sequence[str]) -> tuple[str, str]:
    """Return the units that suit ``texts``, and why."""
    characters = sum(map(len, texts))
    if sum(len(_UNSPACED.findall(text)) for text in texts) > characters / 2:
        return "characters", "the script has no blanks"
    count = Counter(word for text in texts for word in text.split())
    rarest = min(count.values(), default=0)
    if len(count) <= _FEW_WORDS and rarest >= _FREQUENT:
        return "words", f"each occurs {rarest:,} times or more"
    if characters > _LONG_TEXTS:
        return "subwords", f"{len(count):,} different words in long texts"
    return "characters", f"{len(count):,} different words, the rarest {rarest:,} times"

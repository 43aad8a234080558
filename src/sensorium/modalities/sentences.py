"""Sentences to be generated: captions and answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Ids, Layout
from sensorium.core.modality import Array, Guess, Modality, is_blank
from sensorium.core.registry import component
from sensorium.core.scalars import plain
from sensorium.language.normalisation import Form, normalise
from sensorium.language.tokeniser import Kind, Tokeniser
from sensorium.signal.running_moments import subsampled

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

MOST = 16
"""Maximum number of sentences in a cell; further ones are ignored."""
_CHARACTERS_A_TOKEN = 32
_TRAINING_CELLS = 100_000


@component
class Sentences(Modality):
    """A sentence to be generated, in any language: a caption, an answer.

    A cell may hold several equally valid sentences: ``["one", "two"]``. Never guessed: the tasks ``captioning``,
    ``answering`` and ``translation`` read their target as this kind. Encoded as ``[N]`` int32 token ids of a tokeniser
    trained on the training cells, or loaded: 0 is padding, 1 is unknown, and the last id ends each sentence. Characters of
    scripts without blanks (Chinese, Japanese, Thai) are single tokens.

    Args:
        tokeniser: ``bpe``, ``wordpiece`` and ``unigram`` learn subwords, so that few words are unknown; or whole words, or
            characters.
        load: A ``tokenizer.json`` to use instead of training one. It is read in training only: the model keeps a copy.
        form: Unicode normal form: NFKC maps wide letters and ligatures to plain ones, NFC keeps them.
        vocabulary: Maximum size of the vocabulary.
        length: Maximum number of tokens of a sentence; the rest is cut.
        lowercase: Whether sentences are lower-cased, and so generated.
    """

    ragged = True
    task = "captioning"
    checked = True

    def __init__(
        self,
        *,
        tokeniser: Kind = "bpe",
        load: str | None = None,
        form: Form = "NFKC",
        vocabulary: int = 8000,
        length: int = 64,
        lowercase: bool = True,
    ) -> None:
        super().__init__()
        if vocabulary < 3:
            raise ConfigError("sentences: vocabulary is 3 or more")
        self.tokeniser, self.load, self.form = tokeniser, load, form
        self.vocabulary, self.length, self.lowercase = vocabulary, length, lowercase
        self._loaded: tuple[dict[str, Any], Tokeniser] | None = None

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        return Guess(0.0, "taken only as the target of a task that generates words")

    def fit(self, cells: Iterable[Any]) -> None:
        texts = subsampled((text for cell in cells for text in self._texts(cell)), _TRAINING_CELLS)
        learnt = Tokeniser.load(self.load) if self.load else Tokeniser.train(texts, self.tokeniser, self.vocabulary - 1)
        self.state = {"tokeniser": learnt.to_json()}

    @property
    def layout(self) -> Layout:
        return Ids(self._tokens.size + 1, MOST * (self.length + 1))

    @property
    def end(self) -> int:
        """The id that ends a sentence."""
        return self._tokens.size

    def missing(self, cell: Any) -> bool:
        """Whether ``cell`` is missing; ``none`` may be the answer to a question."""
        return is_blank(cell) and not (isinstance(cell, str) and cell.strip().lower() == "none")

    def encode(self, cell: Any) -> Array:
        texts = self._texts(cell)
        if not texts:
            kind = type(plain(cell)).__name__
            raise CellError("the sentence has no visible character" if kind in ("str", "list") else f"a {kind} is not text")
        ids: list[int] = []
        for text in texts:
            ids += [*self._tokens.encode(text)[: self.length], self.end]
        return np.array(ids, dtype=np.int32)

    def blank(self) -> Array:
        return np.zeros(0, dtype=np.int32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Return ids ``[B, N]`` int64, 0 where padded."""
        data = field.data.long()
        return replace(field, data=data if field.mask is None else data.masked_fill(~field.mask, 0))

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """Return ids ``[B, N]`` int64, as for an input."""
        return self.prepare(field)

    def decode(self, value: Array) -> str | list[str]:
        """Return the sentence of the ids ``value``, with or without its end; a list if there are several."""
        texts = self.sentences([int(i) for i in value])
        return texts[0] if len(texts) == 1 else texts

    def sentences(self, ids: Sequence[int]) -> list[str]:
        """Return the sentences in ``ids``: at least one, which may be empty."""
        parts: list[list[int]] = [[]]
        for i in ids:
            if i == self.end:
                parts.append([])
            else:
                parts[-1].append(i)
        if len(parts) > 1 and not parts[-1]:
            parts.pop()
        return [self._tokens.decode(part) for part in parts]

    @property
    def _tokens(self) -> Tokeniser:
        data = self.state["tokeniser"]
        if self._loaded is None or self._loaded[0] is not data:
            self._loaded = (data, Tokeniser.from_json(data))
        return self._loaded[1]

    def _texts(self, cell: Any) -> list[str]:
        """Return the normalised sentences of a cell; none where it is not text."""
        cell = plain(cell)
        if isinstance(cell, str) and cell.lstrip()[:1] == "[" and cell.rstrip()[-1:] == "]":
            cell = _listed(cell)
        if isinstance(cell, (bool, int, float)):
            cell = str(cell)
        parts = [cell] if isinstance(cell, str) else list(cell) if isinstance(cell, (list, tuple)) else []
        texts = [plain(part)[: self.length * _CHARACTERS_A_TOKEN] for part in parts[:MOST] if isinstance(part, str)]
        return [text for text in (normalise(t, lowercase=self.lowercase, form=self.form) for t in texts) if text]


def _listed(cell: str) -> Any:
    """Return the list that a cell holds as JSON, or the cell itself if it is not a list."""
    try:
        parts = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return parts if parts and all(isinstance(part, str) for part in parts) else cell

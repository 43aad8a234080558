"""TF-IDF features of words and characters."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.expert import Features
from sensorium.core.layout import Ids, Layout
from sensorium.core.registry import component
from sensorium.language.tokeniser import UNSPACED
from sensorium.nn.randomized_svd import principal
from sensorium.signal.running_moments import subsampled

_TEXTS = 2000
"""Largest number of texts, evenly spaced, on which the principal directions are fitted."""
_TERMS = 2_000_000
"""Largest number of terms counted; beyond it, the terms in fewest texts are dropped."""
_WORDS = 50_000
"""Number of words whose character n-grams are cached."""
_WORD = re.compile(rf"[^\W{UNSPACED}]{{2,}}|[{UNSPACED}\d]")
Array = NDArray[Any]


@component
class Ngrams(Features):
    """TF-IDF of words, word n-grams and character n-grams of a text.

    Each stream has its own vocabulary. Words and characters are two blocks of unit length; a linear model on them is a
    strong baseline for text with a few thousand rows. Text is decoded from the token ids, so it ends where the stream is
    cut; case is ignored. A word is two or more letters and digits, one digit, or one character of a script without blanks.
    Character n-grams stay within blank-separated chunks and include their edges. Where ids have no spelling (tags, parts
    of speech, pretrained tokenisers), the ids are the words. Trees read the principal directions of both blocks (latent
    semantic analysis).
    Source: term weights, https://doi.org/10.1016/0306-4573(88)90021-0, smoothed as in scikit-learn's ``TfidfVectorizer``.

    Args:
        words: Longest word n-gram; 1: single words only.
        characters: Longest character n-gram; 1 or none: words only.
        least: Smallest number of training texts that contain a term.
        vocabulary: Maximum number of word n-grams, by document frequency.
        spellings: Maximum number of character n-grams, by document frequency.
        directions: Number of principal directions for trees.
    """

    sparse = True

    def __init__(
        self,
        layout: Ids,
        *,
        words: int = 2,
        characters: int | None = 5,
        least: int = 2,
        vocabulary: int = 20_000,
        spellings: int = 40_000,
        directions: int = 48,
    ) -> None:
        super().__init__()
        self.pieces = layout.pieces
        self.longest = (words, (characters or 0) if layout.pieces else 0)
        self.least, self.most, self.rank = least, (vocabulary, spellings), directions
        self.words: Tensor
        self.characters: Tensor
        self.idf: Tensor
        self.directions: Tensor
        # Terms as UTF-8, one per line: no term contains a line break.
        self.declare("words", torch.uint8, 1)
        self.declare("characters", torch.uint8, 1)
        self.declare("idf", torch.float32, 1)
        self.declare("directions", torch.float32, 2)
        self._known: tuple[_Words, _Characters] | None = None

    @classmethod
    def reads(cls, layout: Layout) -> bool:
        return isinstance(layout, Ids)

    @torch.no_grad()
    def fit(self, fields: Iterable[Field]) -> None:
        """Fit document frequencies on all ``fields`` and the principal directions on evenly spaced texts."""
        blocks = (_Words(self.longest[0]), _Characters(self.longest[1]))
        rows = 0

        def counted() -> Iterator[_Text]:
            nonlocal rows
            for field in fields:
                for text in self._texts(field):
                    for block in blocks:
                        block.count(text)
                    rows += 1
                    yield text

        kept = subsampled(counted(), _TEXTS)
        frequent = [block.frequent(self.least, most) for block, most in zip(blocks, self.most, strict=True)]
        for name, terms in zip(("words", "characters"), frequent, strict=True):
            self.keep(name, torch.tensor(list("\n".join(terms).encode("utf-8", "surrogatepass")), dtype=torch.uint8))
        frequency = np.array([n for terms in frequent for n in terms.values()], dtype=np.float64)
        self.keep("idf", torch.from_numpy(np.log((1 + rows) / (1 + frequency)) + 1))
        row, column, value = self._weights(kept)
        self.keep("directions", torch.zeros(len(frequency), 0))
        if len(value):
            texts = self._matrix(row, column, value, len(kept))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the random start of the iteration must be reproducible
                self.keep("directions", principal(texts, self.rank))

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(term for block in self._blocks for term in block.index)

    def forward(self, field: Field) -> Tensor:
        """Return TF-IDF of words, then of characters ``[B, F]``, for ids ``[B, N]``."""
        return self._sparse(field).to_dense().to(field.data.device)

    def nonzero(self, field: Field) -> Tensor:
        return self._sparse(field).to(field.data.device)

    @torch.no_grad()
    def _sparse(self, field: Field) -> Tensor:
        """Return the features as a sparse tensor on the CPU."""
        return self._matrix(*self._weights(self._texts(field)), len(field.data))

    @torch.no_grad()
    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Return the projections of each text on the principal directions ``[B, directions]``."""
        projected: Tensor = torch.sparse.mm(features if features.is_sparse else features.to_sparse(), self.directions)
        return projected

    def keep(self, name: str, values: Tensor) -> None:
        super().keep(name, values)
        self._known = None

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._known = None
        errors: list[str] = rest[-1]
        try:
            terms = sum(len(block.index) for block in self._blocks)
        except UnicodeDecodeError:
            errors.append(f"the terms of {prefix}words or {prefix}characters are not UTF-8")
            return
        if not terms == len(self.idf) == len(self.directions):
            lengths = f"{len(self.idf)} and {len(self.directions)}"
            errors.append(f"{prefix}idf and {prefix}directions are of {lengths} terms, not {terms}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": None}  # rebuilt by each copy

    @property
    def _blocks(self) -> tuple[_Words, _Characters]:
        """Return the term counters, built from the buffers on first use."""
        if self._known is None:
            texts = [bytes(part.cpu().numpy()).decode("utf-8", "surrogatepass") for part in (self.words, self.characters)]
            terms = [[term for term in text.split("\n") if term] for text in texts]
            self._known = (_Words(self.longest[0], terms[0]), _Characters(self.longest[1], terms[1]))
        return self._known

    def _texts(self, field: Field) -> list[_Text]:
        real = field.data != 0 if field.mask is None else field.mask & (field.data != 0)
        rows = [[i for i in row if i] for row in field.data.masked_fill(~real, 0).tolist()]
        if not self.pieces:
            return [_Text([str(i) for i in row], []) for row in rows]
        texts = ("".join([self.pieces[i] for i in row]).lower() for row in rows)
        return [_Text(_WORD.findall(text), text.split()) for text in texts]

    def _matrix(self, row: Array, column: Array, value: Array, rows: int) -> Tensor:
        """Return the weights of ``rows`` texts as a coalesced sparse tensor."""
        order = np.argsort(row, kind="stable")  # by row; within one, words come before characters
        place, weight = torch.from_numpy(np.stack([row, column])[:, order]), torch.from_numpy(value[order]).float()
        return torch.sparse_coo_tensor(
            place, weight, (rows, len(self.idf)), dtype=torch.float32, check_invariants=True, is_coalesced=True
        )

    def _weights(self, texts: Sequence[_Text]) -> tuple[Array, Array, Array]:
        """Return the non-zero TF-IDF weights as rows, columns and values; each block of a row has unit length."""
        idf = self.idf.cpu().numpy().astype(np.float64)
        parts, before = [], 0
        for block in self._blocks:
            width = len(block.index)
            terms = [block.terms(text) for text in texts]
            row = np.repeat(np.arange(len(texts)), [len(part) for part in terms])
            place, count = np.unique(row * width + np.concatenate([_NONE, *terms]), return_counts=True)
            row, column = np.divmod(place, max(width, 1))
            value = (1 + np.log(count)) * idf[before + column]
            value /= np.sqrt(np.bincount(row, value**2, minlength=len(texts)))[row]
            parts.append((row, column + before, value))
            before += width
        row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        return row, column, value


class _Text(NamedTuple):
    """A text split into words and into blank-separated chunks."""

    words: list[str]
    chunks: list[str]


_NONE = np.zeros(0, dtype=np.int64)


class _Block(ABC):
    """Terms and their columns; while counting, every new term gets a column."""

    def __init__(self, longest: int, terms: Sequence[str] | None = None) -> None:
        self.longest = longest
        self.index = {term: i for i, term in enumerate(terms or ())}
        self.grows = terms is None
        self.frequency = np.zeros(1024, dtype=np.int64)
        self.rare = 1

    @abstractmethod
    def terms(self, text: _Text) -> Array:
        """Return the column of each known term of ``text``, with repetitions."""

    def columns(self, terms: Iterable[str]) -> list[int]:
        if self.grows:
            index = self.index
            return [index.setdefault(term, len(index)) for term in terms]
        return [column for column in map(self.index.get, terms) if column is not None]

    def count(self, text: _Text) -> None:
        """Count the terms of one more text."""
        columns = np.sort(self.terms(text))
        if len(self.index) > len(self.frequency):
            self.frequency = np.concatenate([self.frequency, np.zeros(len(self.index), dtype=np.int64)])
        self.frequency[columns[np.diff(columns, prepend=-1) > 0]] += 1
        while len(self.index) > _TERMS:
            self.forget()

    def forget(self) -> None:
        """Drop the terms in fewest texts, as word2vec prunes its vocabulary."""
        kept = [term for term, column in self.index.items() if self.frequency[column] > self.rare]
        frequency = self.frequency[[self.index[term] for term in kept]]
        self.index = {term: i for i, term in enumerate(kept)}
        self.frequency = np.concatenate([frequency, np.zeros(1024, dtype=np.int64)])
        self.rare += 1

    def frequent(self, least: int, most: int) -> dict[str, int]:
        """Return the terms with the highest document frequencies, sorted by frequency, then alphabetically."""
        counts = self.frequency[: len(self.index)].tolist()
        enough = [(-counts[column], term) for term, column in self.index.items() if counts[column] >= least]
        return {term: -count for count, term in sorted(enough)[:most]}


class _Words(_Block):
    """Word n-grams."""

    def terms(self, text: _Text) -> Array:
        words = text.words
        columns = self.columns(words)
        for n in range(2, self.longest + 1):
            columns += self.columns(map(" ".join, zip(*(words[i:] for i in range(n)), strict=False)))
        return np.array(columns, dtype=np.int64)


class _Characters(_Block):
    """Character n-grams within blank-separated chunks, padded with blanks."""

    def __init__(self, longest: int, terms: Sequence[str] | None = None) -> None:
        super().__init__(longest, terms)
        self.seen: dict[str, Array] = {}

    def terms(self, text: _Text) -> Array:
        return np.concatenate([_NONE, *(self._chunk(chunk) for chunk in text.chunks)])

    def forget(self) -> None:
        super().forget()
        self.seen.clear()

    def _chunk(self, chunk: str) -> Array:
        known = self.seen.get(chunk)
        if known is None:
            if len(self.seen) >= _WORDS:
                self.seen.clear()
            known = self.seen[chunk] = np.array(self.columns(_groups(f" {chunk} ", self.longest)), dtype=np.int64)
        return known


def _groups(chunk: str, longest: int) -> Iterator[str]:
    """Yield the n-grams of two to ``longest`` characters like scikit-learn's ``char_wb``: a short chunk counts once,
    whole.
    """
    for n in range(2, longest + 1):
        if n >= len(chunk):
            yield chunk
            return
        yield from (chunk[i : i + n] for i in range(len(chunk) - n + 1))

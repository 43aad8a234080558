"""Bags of words and TF-IDF of texts that are split into words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class BagOfWords:
    """A vocabulary with document frequencies, learnt from texts.

    ``BagOfWords.learn([["a", "dog"], ["a", "cat"]]).tfidf([["the", "cat"]])`` is one row of weights.

    Args:
        words: The words and n-grams (joined by spaces), in the order of the columns.
        frequency: The number of texts that contain each of them.
        texts: The number of training texts.
        longest: The length of the longest n-gram in words.
    """

    words: tuple[str, ...]
    frequency: tuple[int, ...]
    texts: int
    longest: int = 1

    @classmethod
    def learn(cls, texts: Iterable[Sequence[str]], *, longest: int = 1, least: int = 1, most: int | None = None) -> Self:
        """Learn the vocabulary of ``texts``, which are lists of words.

        Args:
            texts: The training texts.
            longest: The length of the longest n-gram in words.
            least: Minimum number of texts that contain a word.
            most: Maximum size of the vocabulary: the most frequent words; None: all.
        """
        count: Counter[str] = Counter()
        number = 0
        for text in texts:
            count.update(set(_terms(text, longest)))
            number += 1
        ranked = sorted((word for word in count if count[word] >= least), key=lambda word: (-count[word], word))
        words = tuple(sorted(ranked[:most]))
        return cls(words, tuple(count[word] for word in words), number, longest)

    def counts(self, texts: Sequence[Sequence[str]]) -> Array:
        """Return the count of each word in each of ``texts``, ``[texts, words]``."""
        column = {word: i for i, word in enumerate(self.words)}
        out = np.zeros((len(texts), len(self.words)))
        for row, text in zip(out, texts, strict=True):
            for word, n in Counter(_terms(text, self.longest)).items():
                if word in column:
                    row[column[word]] = n
        return out

    @property
    def rarity(self) -> Array:
        """The inverse document frequency of each word, ``log((1 + texts) / (1 + frequency)) + 1``.

        It is smoothed as if one more text contained every word; the last 1 keeps words of all texts.
        """
        rarity: Array = np.log((1 + self.texts) / (1 + np.array(self.frequency, dtype=np.float64))) + 1
        return rarity

    def tfidf(self, texts: Sequence[Sequence[str]], *, sublinear: bool = False) -> Array:
        """Return counts times rarity of ``texts``, ``[texts, words]``, with rows of length 1 (zeros if no word is known).

        With ``sublinear``, counts n become 1 + log n. Source: Salton and Buckley,
        https://doi.org/10.1016/0306-4573(88)90021-0.
        """
        count = self.counts(texts)
        if sublinear:
            count = np.where(count > 0, 1 + np.log(np.maximum(count, 1)), 0.0)
        weight = count * self.rarity
        length = np.linalg.norm(weight, axis=1, keepdims=True)
        scaled: Array = np.divide(weight, length, out=np.zeros_like(weight), where=length > 0)
        return scaled


def _terms(text: Sequence[str], longest: int) -> Iterable[str]:
    for n in range(1, longest + 1):
        for i in range(len(text) - n + 1):
            yield " ".join(text[i : i + n])

"""Scores of short answers to questions: match after normalisation, and VQA accuracy against several annotators."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ARTICLES = {"a", "an", "the"}
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {**{word: str(i) for i, word in enumerate(_WORDS)}, "none": "0"}
ANNOTATORS = 3
"""Number of other annotators whose agreement gives an answer the full score."""


def normalised(answer: str) -> str:
    """Return ``answer`` in lower case, without punctuation and articles, and with number words up to ten as digits.

    Source: Antol et al. 2015, https://arxiv.org/abs/1505.00468, § 3.3. Marks between digits (``2,000``, ``3.5``) and
    apostrophes within words are treated as in that paper: the comma is dropped, the point and the apostrophe are kept.
    """
    text = re.sub(r"(?<=\d),(?=\d)", "", answer.lower())
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", " ", text)
    text = re.sub(r"(?<!\w)'|'(?!\w)|[^\w\s.']|_", " ", text)
    return " ".join(_NUMBERS.get(word, word) for word in text.split() if word not in _ARTICLES)


def normalised_match(generated: str, references: Sequence[str]) -> float:
    """Return 1 if ``generated`` equals one of the ``references`` after normalisation, otherwise 0."""
    return float(normalised(generated) in set(map(normalised, references)))


def vqa_accuracy(generated: str, references: Sequence[str]) -> float:
    """Return the VQA accuracy of ``generated`` against the answers of several annotators, ``references``.

    The mean, over the annotators left out in turn, of min(agreeing others / 3, 1). With fewer than four annotators the
    number of others replaces 3; with a single one this is the normalised match.

    Source: Antol et al. 2015, https://arxiv.org/abs/1505.00468, eq. 1, averaged as in its evaluation code.
    """
    answer, known = normalised(generated), list(map(normalised, references))
    if len(known) < 2:
        return float(answer in known)
    enough, agreeing = min(ANNOTATORS, len(known) - 1), known.count(answer)
    return sum(min(1.0, (agreeing - (own == answer)) / enough) for own in known) / len(known)

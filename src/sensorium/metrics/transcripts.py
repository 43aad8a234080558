"""Errors of transcripts in words and characters, counted by jiwer row by row, so that resamples need no new counting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from sensorium.core.errors import MissingExtraError
from sensorium.metrics.weighting import ratio

NOTHING = "(nothing)"
"""Placeholder for the missing word of an omission or an insertion."""


def check_available() -> None:
    """Raise ``MissingExtraError`` where jiwer is not installed (``sensorium[words]``)."""
    if find_spec("jiwer") is None:
        raise MissingExtraError("counting the errors of transcripts", "words")


def word_errors(references: Sequence[str], answers: Sequence[str]) -> tuple[Tensor, list[list[tuple[str, str]]]]:
    """Return errors and words of each row, and the words that differ.

    Words are what blanks separate. Errors are substitutions, insertions and deletions of the shortest edit.

    Args:
        references: The true transcript of each row.
        answers: The recognised one.

    Returns:
        ``[rows, 2]`` int64: errors, and words of the reference; and of each row pairs (true, recognised) of different
        words, either of them ``NOTHING``.
    """
    check_available()
    from jiwer import process_words

    counts, differing = [], []
    every = process_words(list(references), list(answers)) if references else None
    for true, answered, chunks in (
        zip(every.references, every.hypotheses, every.alignments, strict=True) if every is not None else ()
    ):
        pairs = []
        for chunk in chunks:
            if chunk.type != "equal":
                left = true[chunk.ref_start_idx : chunk.ref_end_idx]
                right = answered[chunk.hyp_start_idx : chunk.hyp_end_idx]
                pairs += [
                    (left[i] if i < len(left) else NOTHING, right[i] if i < len(right) else NOTHING)
                    for i in range(max(len(left), len(right)))
                ]
        counts.append([len(pairs), len(true)])
        differing.append(pairs)
    return torch.tensor(counts, dtype=torch.int64).reshape(-1, 2), differing


def character_errors(references: Sequence[str], answers: Sequence[str]) -> Tensor:
    """Return errors and characters, blanks included, of each row ``[rows, 2]`` int64, as ``word_errors`` does of words.

    Args:
        references: The true transcript of each row.
        answers: The recognised one.
    """
    check_available()
    from jiwer import process_characters

    counts = []
    every = process_characters(list(references), list(answers)) if references else None
    for true, chunks in zip(every.references, every.alignments, strict=True) if every is not None else ():
        wrong = sum(
            max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in chunks
            if chunk.type != "equal"
        )
        counts.append([wrong, len(true)])
    return torch.tensor(counts, dtype=torch.int64).reshape(-1, 2)


def error_rate(counts: Tensor, weights: Tensor) -> Tensor:
    """Return errors per word (or character) in each resample ``[R]``: of all rows together, not a mean over rows.

    Args:
        counts: Errors and lengths of each row ``[rows, 2]``.
        weights: How often each row counts in each resample ``[R, rows]``.
    """
    errors, lengths = (weights @ counts.to(weights)).unbind(dim=1)
    return ratio(errors, lengths)


def confusions(
    references: Sequence[str], differing: Sequence[Sequence[tuple[str, str]]]
) -> tuple[list[str], list[list[int]]]:
    """Return the words and how often each (rows) was recognised as each (columns); ``NOTHING`` last.

    Args:
        references: The true transcript of each row.
        differing: The pairs of different words of each row, as ``word_errors`` returns them.
    """
    pairs = Counter(pair for row in differing for pair in row)
    true = Counter(word for text in references for word in text.split())
    words = sorted(true.keys() | {word for pair in pairs for word in pair if word != NOTHING})
    words = [*words, NOTHING]
    place = {word: i for i, word in enumerate(words)}
    counts = [[0] * len(words) for _ in words]
    missed = Counter(word for (word, _), n in pairs.items() for _ in range(n))
    for word, n in true.items():
        counts[place[word]][place[word]] = n - missed[word]
    for (word, other), n in pairs.items():
        counts[place[word]][place[other]] += n
    return words, counts

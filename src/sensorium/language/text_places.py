"""Alignment of a processed text with the text as it was written, and the bounds of its words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sensorium.language.normalisation import Form, normalise
from sensorium.language.tokeniser import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_AHEAD = 80
"""Number of characters searched for the origin of a character."""


def word_bounds(text: str) -> list[tuple[int, int]]:
    """Return the first character of each word of ``text`` and the one after its last: words are separated by blanks, and
    each character of a script without blanks (Chinese) is a word."""
    return [match.span() for match in _WORD.finditer(text)]


def origins(written: str, processed: str, form: Form, lowercase: bool) -> list[int]:
    """Return for each character of ``processed`` the place in ``written`` that it comes from, in ascending order.

    Args:
        written: The text as it was written.
        processed: The same, normalised (``language/normalisation.py``), perhaps with blanks between words.
        form: The normal form.
        lowercase: Whether it is lower-cased.
    """
    places: list[int] = []
    at, rest = -1, ""  # the last place used, and the rest of its normalised form
    for character in processed:
        if rest[:1] == character:
            rest = rest[1:]
        elif character != " " or written[at + 1 : at + 2].isspace():
            for place in range(at + 1, min(at + 1 + _AHEAD, len(written))):
                normalised = " " if written[place].isspace() else normalise(written[place], lowercase=lowercase, form=form)
                if normalised[:1] == character or (normalised and _base(normalised[0]) == _base(character)):
                    at, rest = place, normalised[1:]
                    break
        places.append(max(at, 0))
    return places


def _base(character: str) -> str:
    """The letter without its marks, which normalisation may have joined to it."""
    return unicodedata.normalize("NFD", character)[:1]


def token_places(
    offsets: Sequence[tuple[int, int]],
    processed: str,
    places: Sequence[int],
    words: Sequence[tuple[int, int]],
    written: str,
) -> NDArray[np.float32]:
    """Return the first character of each token, the one after its last, and its word, ``[N, 3]``.

    Tokens without a visible character (the blank before a word) are placed at the beginning of the next token that has one.

    Args:
        offsets: The first character of each token in ``processed`` and the one after its last.
        processed: The text that was split into tokens.
        places: The place of each character of ``processed`` in the text as it was written.
        words: The bounds of each word in the text as it was written.
        written: That text.
    """
    starts = np.array([start for start, _ in words] or [0])
    out = np.empty((len(offsets), 3), np.float32)
    after = (float(len(written)), float(len(written)), float(len(words)))
    for i in range(len(offsets) - 1, -1, -1):
        visible = [
            k for k in range(*offsets[i]) if k < len(places) and not processed[k].isspace() and _inside(places[k], words)
        ]
        if visible:
            first, last = places[visible[0]], places[visible[-1]]
            while last + 1 < len(written) and unicodedata.combining(written[last + 1]):
                last += 1
            word = int(np.searchsorted(starts, first, side="right")) - 1
            out[i] = first, last + 1, word
            after = (float(first), float(first), float(word))
        else:
            out[i] = after
    return out


def _inside(place: int, words: Sequence[tuple[int, int]]) -> bool:
    """Whether a place is part of a word: a mark between the parts of a list is not."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        if words[middle][1] <= place:
            low = middle + 1
        else:
            high = middle
    return low < len(words) and words[low][0] <= place

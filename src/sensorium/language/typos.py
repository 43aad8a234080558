"""Slips of the keyboard, by degrees."""

from __future__ import annotations

import re

import numpy as np

_WORDS = re.compile(r"\s+|[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")
"""Blanks; characters of scripts without blanks, each by itself; words."""


def misspelt(text: str, level: float, rng: np.random.Generator) -> str:
    """The text with one slip in a share ``level`` of its words: two letters swapped, one lost, doubled or mistaken.

    A character of a script without blanks (Chinese, Japanese) is mistaken for another of the same text. As much is drawn
    from ``rng`` whatever the level.
    """
    parts = _WORDS.findall(text)
    draws = rng.random((len(parts), 4))
    letters = "".join(dict.fromkeys(text.replace(" ", ""))) or "e"
    return "".join(
        _slip(part, letters, *draw[1:].tolist()) if draw[0] < level and not part.isspace() else part
        for part, draw in zip(parts, draws, strict=True)
    )


def _slip(word: str, letters: str, kind: float, place: float, which: float) -> str:
    at = int(place * len(word))
    other = letters[int(which * len(letters))]
    if other == word[at]:
        other = letters[(letters.index(other) + 1) % len(letters)]
    mistaken = word[:at] + other + word[at + 1 :]
    if len(word) == 1 or kind < 0.25:
        return mistaken
    if kind < 0.5:
        return word[:at] + word[at + 1 :]
    if kind < 0.75:
        return word[: at + 1] + word[at:]
    at = min(at, len(word) - 2)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return swapped if swapped != word else mistaken

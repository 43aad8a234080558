"""Random typing errors, to corrupt text."""

from __future__ import annotations

import re

import numpy as np

_WORDS = re.compile(r"\s+|[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")
"""White space, single characters of scripts without spaces, or words."""


def with_typos(text: str, level: float, rng: np.random.Generator) -> str:
    """Return ``text`` with a typing error in a share ``level`` of its words: letters swapped, lost, doubled or replaced.

    Characters of scripts without spaces (Chinese, Japanese) are replaced by others of the text. The number of draws from
    ``rng`` does not depend on the level.
    """
    parts = _WORDS.findall(text)
    draws = rng.random((len(parts), 4))
    letters = "".join(dict.fromkeys(text.replace(" ", ""))) or "e"
    return "".join(
        _with_typo(part, letters, *draw[1:].tolist()) if draw[0] < level and not part.isspace() else part
        for part, draw in zip(parts, draws, strict=True)
    )


def _with_typo(word: str, letters: str, kind: float, place: float, which: float) -> str:
    at = int(place * len(word))
    other = letters[int(which * len(letters))]
    if other == word[at]:
        other = letters[(letters.index(other) + 1) % len(letters)]
    replaced = word[:at] + other + word[at + 1 :]
    if len(word) == 1 or kind < 0.25:
        return replaced
    if kind < 0.5:
        return word[:at] + word[at + 1 :]
    if kind < 0.75:
        return word[: at + 1] + word[at:]
    at = min(at, len(word) - 2)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return swapped if swapped != word else replaced

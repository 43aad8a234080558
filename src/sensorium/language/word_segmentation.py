"""Text to words, for scripts with blanks and without."""

from __future__ import annotations

import re
from typing import Literal

from sensorium.core.errors import MissingExtraError
from sensorium.language.tokeniser import UNSPACED

Segmenter = Literal["characters", "jieba"]
"""How text without blanks is cut: each character a word, which needs nothing; or into words by jieba's dictionary."""

# A word with its apostrophes and hyphens, a number with its marks, one character of an unspaced script, or one mark.
_WORD = re.compile(rf"[{UNSPACED}]|[^\W\d_{UNSPACED}]+(?:['’\-][^\W\d_{UNSPACED}]+)*|\d+(?:[.,:]\d+)*|[^\s]", re.UNICODE)
_RUN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


def words(text: str, segmenter: Segmenter = "characters") -> list[str]:
    """The words, numbers and marks of ``text`` in order: ``"It's 3.5 km"`` is ``It's``, ``3.5``, ``km``.

    Chinese is cut as ``segmenter`` says; Japanese, Thai and their like, of which jieba knows nothing, into characters.
    """
    if segmenter == "characters":
        return _WORD.findall(text)
    found: list[str] = []
    at = 0
    for run in _RUN.finditer(text):
        found += _WORD.findall(text[at : run.start()])
        found += chinese(run.group())
        at = run.end()
    return found + _WORD.findall(text[at:])


def chinese(text: str) -> list[str]:
    """Chinese words, by jieba's dictionary and its model of unknown ones. Source: https://github.com/fxsjy/jieba."""
    try:
        import jieba
    except ImportError:
        raise MissingExtraError("cutting Chinese into words", "zh") from None
    _quiet()
    return [word for word in jieba.cut(text) if not word.isspace()]


def tagged_chinese(text: str) -> list[tuple[str, str]]:
    """Chinese words with jieba's own part-of-speech flags (``n``, ``v``, ``a``, …)."""
    try:
        import jieba.posseg
    except ImportError:
        raise MissingExtraError("parts of speech of Chinese", "zh") from None
    _quiet()
    return [(pair.word, pair.flag) for pair in jieba.posseg.cut(text) if not pair.word.isspace()]


def _quiet() -> None:
    # It tells of its dictionary on standard error.
    import logging

    logging.getLogger("jieba").setLevel(logging.WARNING)

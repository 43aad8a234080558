"""Word segmentation, for scripts with and without spaces."""

from __future__ import annotations

import re
from typing import Literal

from sensorium.core.errors import MissingExtraError
from sensorium.language.tokeniser import UNSPACED

Segmenter = Literal["characters", "jieba"]
"""Segmentation of Chinese text: single characters, or words by the dictionary of jieba."""

# A word with apostrophes and hyphens, a number with separators, a character of an unspaced script, or a symbol.
_WORD = re.compile(rf"[{UNSPACED}]|[^\W\d_{UNSPACED}]+(?:['’\-][^\W\d_{UNSPACED}]+)*|\d+(?:[.,:]\d+)*|[^\s]", re.UNICODE)
_RUN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


def words(text: str, segmenter: Segmenter = "characters") -> list[str]:
    """Split ``text`` into words, numbers and symbols: ``"It's 3.5 km"`` has ``It's``, ``3.5`` and ``km``.

    Chinese is split by ``segmenter``; Japanese, Thai and similar scripts, which jieba does not know, into characters.
    """
    if segmenter == "characters":
        return _WORD.findall(text)
    pieces: list[str] = []
    at = 0
    for run in _RUN.finditer(text):
        pieces += _WORD.findall(text[at : run.start()])
        pieces += chinese(run.group())
        at = run.end()
    return pieces + _WORD.findall(text[at:])


def chinese(text: str) -> list[str]:
    """Split Chinese ``text`` into words by jieba. Source: https://github.com/fxsjy/jieba."""
    try:
        import jieba
    except ImportError:
        raise MissingExtraError("splitting Chinese into words", "zh") from None
    _quiet()
    return [word for word in jieba.cut(text) if not word.isspace()]


def tagged_chinese(text: str) -> list[tuple[str, str]]:
    """Split Chinese ``text`` into words with the part-of-speech flags of jieba (``n``, ``v``, ``a``, …)."""
    try:
        import jieba.posseg
    except ImportError:
        raise MissingExtraError("tagging Chinese parts of speech", "zh") from None
    _quiet()
    return [(pair.word, pair.flag) for pair in jieba.posseg.cut(text) if not pair.word.isspace()]


def _quiet() -> None:
    # jieba logs the loading of its dictionary to standard error.
    import logging

    logging.getLogger("jieba").setLevel(logging.WARNING)

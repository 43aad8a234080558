"""Word segmentation, for scripts with and without spaces."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from importlib import import_module
from typing import Any, Literal

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
    jieba = _imported("jieba", "splitting Chinese into words")
    return [word for word in jieba.cut(text) if not word.isspace()]


def tagged_chinese(text: str) -> list[tuple[str, str]]:
    """Split Chinese ``text`` into words with the part-of-speech flags of jieba (``n``, ``v``, ``a``, …)."""
    tagger = _imported("jieba.posseg", "tagging Chinese parts of speech")
    return [(pair.word, pair.flag) for pair in tagger.cut(text) if not pair.word.isspace()]


def _imported(module: str, purpose: str) -> Any:
    """The ``module`` of jieba without its warnings of escape sequences, given when Python first compiles it, and without
    its log of loading a dictionary."""
    if module not in sys.modules:
        try:
            with warnings.catch_warnings():
                for category in (DeprecationWarning, SyntaxWarning):
                    warnings.simplefilter("ignore", category)
                import_module(module)
        except ImportError:
            raise MissingExtraError(purpose, "zh") from None
        logging.getLogger("jieba").setLevel(logging.WARNING)
    return sys.modules[module]

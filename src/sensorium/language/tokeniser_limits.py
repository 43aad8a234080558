"""How much longer a ``tokenizer.json`` can make a text: a few replacements in a row can make gigabytes of a line."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import Any

MOST = 64
"""Times longer than it was that a text may become, at most; real ones stay below 20."""
_STEPS, _PATTERN, _WORD = 64, 4096, 1000


def check_growth(file: dict[str, Any]) -> None:
    """Raise ``ValueError`` where a ``tokenizer.json`` may make a text much longer than it was."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        times = 1.0
        for count, step in enumerate(_steps(file.get(part)), 1):
            if count > _STEPS:
                raise ValueError(f"its {part} has more than {_STEPS} steps")
            times *= _times(step)
            if times > MOST:
                raise ValueError(f"its {part} can make a text more than {MOST} times as long")
    model = file.get("model")
    if isinstance(model, dict):
        longest = model.get("max_input_chars_per_word", 100)
        if not isinstance(longest, int) or not 0 <= longest <= _WORD:
            raise ValueError(f"its longest word is {str(longest)[:40]}, not at most {_WORD} characters")


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """The steps of a normaliser, a splitter or a decoder, one after the other."""
    below = [part]
    while below:
        item = below.pop()
        if not isinstance(item, dict):
            continue
        if item.get("type") == "Sequence":
            for key in ("normalizers", "pretokenizers", "decoders"):
                inner = item.get(key)
                below += inner if isinstance(inner, list) else []
        else:
            yield item


def _times(step: dict[str, Any]) -> float:
    """How many times as long as it was one step can make a text."""
    kind, pattern = step.get("type"), step.get("pattern")
    literal = pattern.get("String") if isinstance(pattern, dict) else None
    for text in (literal, pattern.get("Regex") if isinstance(pattern, dict) else None):
        if isinstance(text, str) and len(text) > _PATTERN:
            raise ValueError(f"a pattern of {len(text):,} characters is too long")
    if kind == "Replace":
        # A regular expression may match a single character, or (as an empty text does) between any two.
        matched = max(1, len(literal)) if isinstance(literal, str) else 1
        made = len(str(step.get("content", "")))
        return max(1.0, made / matched if literal else float(made + 1))
    if kind == "Prepend":
        return 1.0 + len(str(step.get("prepend", "")))
    if kind == "Metaspace":
        return float(max(1, len(str(step.get("replacement", "")))))
    if kind == "Precompiled":
        return float(max(1, _longest(step.get("precompiled_charsmap"))))
    return 2.0 if kind == "ByteLevel" else 1.0


def _longest(charsmap: Any) -> int:
    """The longest text, in characters, that a character map of SentencePiece puts in the place of one.

    The map: the size of a trie (4 bytes, little-endian), the trie, and the texts with a zero byte after each.
    Source: https://github.com/google/sentencepiece/blob/master/src/normalizer.cc, ``DecodePrecompiledCharsMap``.
    """
    if not isinstance(charsmap, str) or not charsmap:
        return 1
    try:
        data = base64.b64decode(charsmap)
        (size,) = struct.unpack_from("<I", data)
        texts = data[4 + size :].decode("utf-8", errors="replace")
    except (binascii.Error, ValueError, struct.error):
        raise ValueError("its map of characters is not readable") from None
    return max(map(len, texts.split("\0")), default=1)

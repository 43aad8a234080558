"""Check of ``tokenizer.json`` files, since a few chained replacements can turn a line into gigabytes."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import Any

MOST = 64
"""Maximum factor by which a text may grow; real tokenisers stay below 20."""
_STEPS, _PATTERN, _WORD = 64, 4096, 1000


def check_growth(file: dict[str, Any]) -> None:
    """Raise ``ValueError`` if the parsed ``tokenizer.json``, ``file``, may make texts more than ``MOST`` times as long."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        factor = 1.0
        for count, step in enumerate(_steps(file.get(part)), 1):
            if count > _STEPS:
                raise ValueError(f"its {part} has more than {_STEPS} steps")
            factor *= _growth(step)
            if factor > MOST:
                raise ValueError(f"its {part} can make a text more than {MOST} times as long")
    model = file.get("model")
    if isinstance(model, dict):
        longest = model.get("max_input_chars_per_word", 100)
        if not isinstance(longest, int) or not 0 <= longest <= _WORD:
            raise ValueError(f"its longest word is {str(longest)[:40]}, not at most {_WORD} characters")


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """Iterate over the steps of a normaliser, splitter or decoder."""
    pending = [part]
    while pending:
        item = pending.pop()
        if not isinstance(item, dict):
            continue
        if item.get("type") == "Sequence":
            for key in ("normalizers", "pretokenizers", "decoders"):
                inner = item.get(key)
                pending += inner if isinstance(inner, list) else []
        else:
            yield item


def _growth(step: dict[str, Any]) -> float:
    """Return the factor by which one step can lengthen a text."""
    kind, pattern = step.get("type"), step.get("pattern")
    literal = pattern.get("String") if isinstance(pattern, dict) else None
    for text in (literal, pattern.get("Regex") if isinstance(pattern, dict) else None):
        if isinstance(text, str) and len(text) > _PATTERN:
            raise ValueError(f"a pattern of {len(text):,} characters is too long")
    if kind == "Replace":
        # A regular expression may match single characters or, like an empty text, between any two.
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
    """Return the length of the longest replacement of a character in a SentencePiece map.

    Format of the map: the size of a trie (4 bytes, little-endian), the trie, and the texts with a zero byte after each.
    Source: https://github.com/google/sentencepiece/blob/master/src/normalizer.cc, ``DecodePrecompiledCharsMap``.
    """
    if not isinstance(charsmap, str) or not charsmap:
        return 1
    try:
        data = base64.b64decode(charsmap)
        (size,) = struct.unpack_from("<I", data)
        texts = data[4 + size :].decode("utf-8", errors="replace")
    except (binascii.Error, ValueError, struct.error):
        raise ValueError("its character map is damaged") from None
    return max(map(len, texts.split("\0")), default=1)

"""Cells that would be learnt as words and are none: content in base64, addresses, what a program printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

WORDS = frozenset({"text", "category", "tags", "part_of_speech", ""})
"""Kinds that read any text, whatever it stands for."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,9}://[^\s\"<>]+", re.IGNORECASE)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}){12,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?|(?:[A-Za-z0-9_-]{4}){12,}")
_DATA = re.compile(r"data:[\w.+-]*/?[\w.+-]*[;,]")
_PRINTED = re.compile(
    r"\{\s*'[^']{0,60}'\s*:|b['\"]|(?:array|tensor|DataFrame|Series)\(|<[\w.]{2,60} (?:object|image|mode)"
    r"|\[\[|\[[^\]]{0,2000}\.\.\."
)
_LOOKED_AT = 4096
_ENOUGH = 0.5
_SOME = 0.05


def _is_base64(text: str) -> bool:
    text = "".join(text.split())
    # Letters of both cases and digits: a long word or a number in hexadecimal has not all of them.
    mixed = all(re.search(signs, text[:_LOOKED_AT]) for signs in ("[a-z]", "[A-Z]", "[0-9]"))
    return mixed and _BASE64.fullmatch(text[: _LOOKED_AT // 4 * 4]) is not None


def lookalike(cells: Sequence[Any], kind: str) -> str:
    """What non-missing cells, taken for ``kind``, rather are, and what to do; empty where they are what they seem."""
    texts = [cell.strip() for cell in cells if isinstance(cell, str)]
    if not texts:
        return ""

    def count(test: Callable[[str], object]) -> int:
        return sum(bool(test(text)) for text in texts)

    addresses = count(_ADDRESS.fullmatch)
    if addresses >= max(_SOME * len(cells), 1) and kind != "molecule":
        return (
            f"{addresses} of {len(cells)} cells are addresses ({_first(texts, _ADDRESS.fullmatch)}): nothing is fetched; "
            f"download the files first and name them in the table"
        )
    if kind not in WORDS:
        return ""
    found = (
        (count(_DATA.match), "hold content as data: addresses", "say what it is (--as COLUMN=image), or write it to files"),
        (count(_is_base64), "hold content in base64", "say what it is (--as COLUMN=image), or write it to files"),
        (
            count(_PRINTED.match),
            "are what a program printed of its objects, and cannot be read back",
            "save the table as Parquet or JSON lines, or the content as files",
        ),
    )
    for many, what, remedy in found:
        if many >= _ENOUGH * len(cells):
            return f"{many} of {len(cells)} cells {what}: as {kind or 'they are'} they would be learnt as words; {remedy}"
    return ""


def _first(texts: Sequence[str], test: Callable[[str], object]) -> str:
    return next((text[:40] for text in texts if test(text)), "")

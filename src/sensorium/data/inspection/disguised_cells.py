"""Text cells that are not words: base64 content, addresses, printed objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

WORDS = frozenset({"text", "category", "tags", "part_of_speech", ""})
"""Kinds that accept any text."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,9}://[^\s\"<>]+", re.IGNORECASE)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}){12,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?|(?:[A-Za-z0-9_-]{4}){12,}")
_DATA = re.compile(r"data:[\w.+-]*/?[\w.+-]*[;,]")
_PRINTED = re.compile(
    r"\{\s*'[^']{0,60}'\s*:|b['\"]|(?:array|tensor|DataFrame|Series)\(|<[\w.]{2,60} (?:object|image|mode)"
    r"|\[\[|\[[^\]]{0,2000}\.\.\."
)
_SCANNED = 4096
_MOST = 0.5
_SOME = 0.05


def _is_base64(text: str) -> bool:
    text = "".join(text.split())
    # Require both cases and digits, which long words and hexadecimal numbers lack.
    mixed = all(re.search(signs, text[:_SCANNED]) for signs in ("[a-z]", "[A-Z]", "[0-9]"))
    return mixed and _BASE64.fullmatch(text[: _SCANNED // 4 * 4]) is not None


def lookalike(cells: Sequence[Any], kind: str) -> str:
    """Return what ``cells`` inferred as ``kind`` really hold, with a remedy; empty where nothing is suspicious.

    Args:
        cells: Non-missing cells.
        kind: The modality they were inferred as.
    """
    texts = [cell.strip() for cell in cells if isinstance(cell, str)]
    if not texts:
        return ""

    def count(test: Callable[[str], object]) -> int:
        return sum(bool(test(text)) for text in texts)

    addresses = count(_ADDRESS.fullmatch)
    if addresses >= max(_SOME * len(cells), 1) and kind != "molecule":
        return (
            f"{addresses} of {len(cells)} cells are URLs ({_first(texts, _ADDRESS.fullmatch)}): nothing is fetched; "
            f"download the files first and name them in the table"
        )
    if kind not in WORDS:
        return ""
    checks = (
        (count(_DATA.match), "hold content as data: URLs", "declare its kind (--as COLUMN=image), or write it to files"),
        (count(_is_base64), "hold content in base64", "declare its kind (--as COLUMN=image), or write it to files"),
        (
            count(_PRINTED.match),
            "are printed objects of a program, which cannot be read back",
            "save the table as Parquet or JSON lines, or the content as files",
        ),
    )
    for matches, what, remedy in checks:
        if matches >= _MOST * len(cells):
            return (
                f"{matches} of {len(cells)} cells {what}: as {kind or 'they are'} they would be learnt as words; {remedy}"
            )
    return ""


def _first(texts: Sequence[str], test: Callable[[str], object]) -> str:
    return next((text[:40] for text in texts if test(text)), "")

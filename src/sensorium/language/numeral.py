"""Numbers as people and programs write them."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

_MONEY = "$€£¥₹"
_DOTTED = re.compile(r"[0-9]{1,3}(\.[0-9]{3})+,[0-9]+|[0-9]{1,3}(\.[0-9]{3}){2,}")  # 1.234,5 and 1.234.567
_GROUPED = re.compile(r"[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?")  # 1,234.5
_SPACED = re.compile(r"[0-9]{1,3}([ '’][0-9]{3})+([.,][0-9]+)?")  # 1 234,5
_COMMA = re.compile(r"[0-9]+,[0-9]+(e[+-]?[0-9]+)?", re.IGNORECASE)  # 1,5
_LONGEST = 64


def read_number(cell: Any) -> float | None:
    """The finite number a cell stands for, or None where it is no number.

    Text may have a sign, thousands separators, a currency sign or ``%`` (``12 %`` is 12). A comma before exactly three
    digits separates thousands (``1,234`` is 1234), any other single comma is a decimal one (``1,5`` and ``0,125``).
    """
    if isinstance(cell, str):
        return _read(cell)
    if isinstance(cell, complex) or hasattr(cell, "__len__"):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _read(text: str) -> float | None:
    text = text.strip()
    if not text or len(text) > _LONGEST or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        plain = _plain(text)
        if plain is None:
            return None
        try:
            value = float(plain)
        except ValueError:
            return None
    return value if math.isfinite(value) else None


def _plain(text: str) -> str | None:
    """The number in the form ``float`` reads; None where no form of writing numbers fits."""
    text = unicodedata.normalize("NFKC", text).replace("−", "-")
    sign = ""
    if text[:1] in ("-", "+"):
        sign, text = text[0], text[1:].lstrip()
    text = text.removesuffix("%").strip()
    text = text.lstrip(_MONEY).strip() if text[:1] in _MONEY else text.rstrip(_MONEY).strip()
    if not sign and text[:1] in ("-", "+"):  # $-3
        sign, text = text[0], text[1:]
    if _GROUPED.fullmatch(text):
        return sign + text.replace(",", "")
    if _DOTTED.fullmatch(text):
        return sign + text.replace(".", "").replace(",", ".")
    if _SPACED.fullmatch(text):
        return sign + re.sub("[ '’]", "", text).replace(",", ".")
    if _COMMA.fullmatch(text):
        return sign + text.replace(",", ".")
    return sign + text if text[:1].isdigit() or text[:1] == "." else None

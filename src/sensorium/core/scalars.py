"""Conversion of scalars of numpy, pandas, Arrow, polars and torch to Python values."""

from __future__ import annotations

from typing import Any


def plain(cell: Any) -> Any:
    """The Python value of ``cell`` if it is a scalar of another library; otherwise ``cell``.

    An Arrow scalar gives its ``as_py``, a zero-dimensional array its ``item``, pandas' ``NA`` gives None, and a lone
    surrogate in a text (half of a character, as in broken JSON) becomes U+FFFD.
    """
    if isinstance(cell, str):
        return replace_surrogates(cell)
    if cell is None or isinstance(cell, (bool, int, float, bytes)):
        return cell
    kind = type(cell)
    if kind.__name__ == "NAType":
        return None
    if hasattr(kind, "as_py"):
        try:
            return plain(cell.as_py())
        except (ValueError, OverflowError, ArithmeticError):
            return cell  # a date beyond the year 9999, say: the modality says what is wrong with it
    if getattr(cell, "shape", None) == () and kind.__name__ not in ("datetime64", "timedelta64"):
        return plain(cell.item()) if hasattr(cell, "item") and not _same(cell.item(), cell) else cell
    return cell


def replace_surrogates(text: str) -> str:
    """``text`` with U+FFFD for each lone surrogate, which no encoding can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # A pair of surrogates is one character.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second)

"""Parser of numbers as people and programs write them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from sensorium.core.scalars import plain
from sensorium.language.durations import Clock, is_duration, is_minutes_and_seconds, is_time_unit, read_duration

Sign = Literal["point", "comma"]

_GROUPED = re.compile(
    r"[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?|[1-9][0-9]?(,[0-9]{2})+,[0-9]{3}(\.[0-9]*)?"
)  # 1,234.5 12,34,567
_DOTTED = re.compile(r"[1-9][0-9]{0,2}(\.[0-9]{3})+(,[0-9]*)?")  # 1.234,5 and 1.234.567
_SPACED = re.compile(r"[0-9]{1,3}([ '’][0-9]{3})+([.,][0-9]+)?")  # 1 234,5
_COMMA = re.compile(r"[0-9]*,[0-9]+|[0-9]+,")  # 1,5
_POINT = re.compile(r"[0-9]*\.[0-9]+|[0-9]+\.?")  # 1.5
_EITHER = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
_LONGEST = 64
_CODES = (
    "USD|EUR|GBP|CHF|JPY|CNY|RMB|INR|SEK|NOK|DKK|PLN|CZK|HUF|RUB|BRL|AUD|CAD|NZD|HKD|SGD|KRW|TWD|MXN|ZAR|TRY|THB|IDR|ILS"
)
_MONEY = rf"(?:[A-Z]{{1,2}})?[$€£¥₹₩₽₺₫₴₦₱₪₡₲฿¢]|Rs\.?|[Kk]r\.?|zł|Kč|Ft|(?:{_CODES})"
_UNIT = r"""[%‰"'′″]|°[^\W\d_]{0,2}|[^\W\d_]{1,14}\.?(?:\^?[23])?(?:/[^\W\d_]{1,6}(?:\^?[23])?)?"""
_FORM = re.compile(
    rf"(?P<open>\(?)\s*(?P<sign>[+-]?)\s*(?P<money>{_MONEY})?\s*(?P<inner>[+-]?)"
    rf"(?P<body>[0-9.,][0-9.,'’ ]*?)(?P<power>[eE][+-]?[0-9]+)?\s*(?P<unit>{_MONEY}|{_UNIT})?(?P<after>-?)\s*(?P<close>\)?)"
)
_IS_MONEY = re.compile(_MONEY)
_ORDINALS = frozenset({"st", "nd", "rd", "th"})


class NumberFormat(NamedTuple):
    """The number format of a column, which resolves cells that are ambiguous alone.

    Args:
        decimal: The decimal separator; None if no cell has one: 1,234 then has a thousands separator.
        grouped: Whether thousands are separated, by the other sign. If cells have decimal points but no thousands
            separators, 1,234 is not a number: it could be 1234 or 1.234.
        unit: The unit of the numbers: ``cm``, ``%``, ``€``; ``s`` for durations; empty if there is none.
        spans: Whether cells are durations, in seconds.
        clock: The meaning of 1:30 in durations.
    """

    decimal: Sign | None = None
    grouped: bool = True
    unit: str = ""
    spans: bool = False
    clock: Clock = "hm"


class Evidence(NamedTuple):
    """Counts of cells that support each number format.

    Args:
        points: Cells that must have a decimal point.
        commas: Cells that must have a decimal comma.
        either: Ambiguous cells: 1,234.
        units: Number of cells by unit.
        texts: Text cells that are numbers.
    """

    points: int
    commas: int
    either: int
    units: Counter[str]
    texts: int


class _ParsedNumber(NamedTuple):
    """A parsed number: its values with decimal points and with decimal commas, and its unit."""

    point: str
    comma: str
    separator: Sign | None
    grouped: bool
    unit: str
    negative: bool

    def value(self, decimal: Sign | None) -> float | None:
        try:
            value = float(self.comma if decimal == "comma" else self.point)
        except ValueError:
            return None
        return (-value if self.negative else value) if math.isfinite(value) else None

    @property
    def ambiguous(self) -> bool:
        return self.point != self.comma


def read_number(cell: Any, writing: NumberFormat | None = None) -> float | None:
    """Return the finite number in ``cell``, or None if it is not a number.

    Text may have a sign or accounting parentheses, thousands separators, a currency sign or ``%`` (``12 %`` is 12).
    Ambiguous cells follow the number format ``writing`` of the column. Without it a comma before exactly three digits
    separates thousands (``1,234`` is 1234), and any other single comma is a decimal comma (``1,5`` and ``0,125``).
    """
    if type(cell) is float or type(cell) is int:
        return _finite(cell)
    cell = plain(cell)
    writing = writing or NumberFormat()
    if writing.spans and (seconds := read_duration(cell, writing.clock)) is not None:
        return seconds
    if not isinstance(cell, str):
        return _finite(cell)
    number = _parse(cell)
    if number is None or not (number.unit == writing.unit or _fits(number.unit, writing)):
        return None
    if number.ambiguous and writing.decimal is not None and not writing.grouped:
        # The decimal reading uses the other separator than the column, so the cell is ambiguous.
        decimals = "point" if "." in number.point else "comma"
        if decimals != writing.decimal:
            return None
    return number.value(writing.decimal)


def number_problem(cell: Any, writing: NumberFormat) -> str:
    """Return why ``read_number`` returns None for ``cell`` in a column with the format ``writing``."""
    number = _parse(cell) if isinstance(cell := plain(cell), str) else None
    shown = f"{str(cell)[:60]!r}"
    if number is None or number.value(None) is None:
        return f"{shown} is not a finite number"
    if number.unit and number.unit != writing.unit and not _fits(number.unit, writing):
        known = f"in {writing.unit!r}" if writing.unit else "without a unit"
        return f"{shown} has the unit {number.unit!r}, but the training cells are {known}"
    sign = "points" if writing.decimal == "point" else "commas"
    return (
        f"{shown} is {number.value('point'):g} or {number.value('comma'):g}: the training cells have decimal {sign} and no "
        f"thousands separators; write it unambiguously, or train with the option decimal: point or comma"
    )


def detect_format(cells: Iterable[Any], decimal: Sign | None = None) -> tuple[NumberFormat, Evidence]:
    """Detect the number format of ``cells``; return it with its evidence. ``decimal``: the separator, if it is known."""
    points = commas = either = lone = spelt = count = written = 0
    objects = False
    units: Counter[str] = Counter()
    texts: list[str] = []
    grouped = {"point": False, "comma": False}
    for raw in cells:
        cell = plain(raw)
        count += 1
        if not isinstance(cell, str):
            objects = objects or (isinstance(cell, float) and math.isfinite(cell) and not cell.is_integer())
            spelt += read_duration(cell) is not None
            continue
        if is_duration(cell):
            spelt += 1
            texts.append(cell)
            continue
        number = _parse(cell)
        if number is None:
            continue
        written += 1
        units.update([number.unit] if number.unit else [])
        points += number.separator == "point"
        commas += number.separator == "comma"
        if number.ambiguous:
            either += "." not in number.point
            lone += "." in number.point
            grouped["point" if "." not in number.point else "comma"] = True
        elif number.grouped and number.separator is not None:
            grouped[number.separator] = True
    sign: Sign = decimal or ("comma" if commas > points else "point")
    fractions = points + commas > 0 or objects or (lone > 0 and sign == "point")
    # Rare units are errors, which are reported.
    common = [unit for unit, often in units.most_common() if unit and often > 0.02 * count]
    spans = spelt > 0 or (len(common) > 1 and all(map(is_time_unit, common)))
    unit = "s" if spans else common[0] if common else ""
    writing = NumberFormat(
        decimal=sign if decimal is not None or fractions else None,
        grouped=decimal is not None or grouped[sign] or not fractions,
        unit=unit,
        spans=spans,
        clock="ms" if spans and is_minutes_and_seconds(texts) else "hm",
    )
    return writing, Evidence(points, commas, either, units, written)


def is_currency(unit: str) -> bool:
    """Return whether ``unit`` is a currency."""
    return _IS_MONEY.fullmatch(unit) is not None


def _fits(unit: str, writing: NumberFormat) -> bool:
    """Return whether a cell with this unit fits the column: no unit, or a currency or % if the column has no unit."""
    if not unit:
        return True
    if writing.unit:
        return False
    return is_currency(unit) or unit == "%"


def _finite(cell: Any) -> float | None:
    if isinstance(cell, complex) or hasattr(cell, "__len__"):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _parse(text: str) -> _ParsedNumber | None:
    text = text.strip()
    if not text or len(text) > _LONGEST or "_" in text:
        return None
    if text.isascii() and text.isdigit():
        return _ParsedNumber(text, text, None, False, "", False)
    text = unicodedata.normalize("NFKC", text).replace("−", "-")
    match = _FORM.fullmatch(text)
    if match is None or bool(match["open"]) != bool(match["close"]):
        return None
    signs = [sign for sign in (match["sign"], match["inner"], match["after"]) if sign]
    if len(signs) > 1 or (match["open"] and signs):
        return None
    if match["money"] and match["unit"] and match["unit"] != match["money"]:
        return None
    unit = _normalise_unit(match["money"] or match["unit"] or "")
    body, power = match["body"], match["power"] or ""
    forms = _forms(body, power)
    if forms is None or unit in _ORDINALS:
        return None
    negative = bool(match["open"]) or signs == ["-"]
    return _ParsedNumber(*forms, unit, negative)


def _forms(body: str, power: str) -> tuple[str, str, Sign | None, bool] | None:
    """Return the digits for ``float`` with decimal points and with commas, the separator, and whether it is grouped."""
    if body.isdigit():
        return body + power, body + power, None, False
    if _EITHER.fullmatch(body) and not power:
        bare, dotted = body.replace(",", "").replace(".", ""), body.replace(",", ".")
        return (dotted, bare, None, True) if "." in body else (bare, dotted, None, True)
    if _SPACED.fullmatch(body):
        form = re.sub("[ '’]", "", body)
        separator: Sign | None = "comma" if "," in form else "point" if "." in form else None
        form = form.replace(",", ".") + power
        return form, form, separator, True
    if _POINT.fullmatch(body):
        return body + power, body + power, "point", False
    if _COMMA.fullmatch(body):
        form = body.replace(",", ".") + power
        return form, form, "comma", False
    if _GROUPED.fullmatch(body):
        form = body.replace(",", "") + power
        return form, form, "point", True
    if _DOTTED.fullmatch(body):
        form = body.replace(".", "").replace(",", ".") + power
        return form, form, "comma", True
    return None


def _normalise_unit(unit: str) -> str:
    """Return a unit in lower case and singular: ``Years`` and ``year`` are equal, ``yrs.`` is not."""
    unit = unit.rstrip(".")
    return unit.lower().removesuffix("s") if len(unit) > 3 and unit.isalpha() and not unit.isupper() else unit

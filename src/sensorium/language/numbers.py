"""Numbers as people and programs write them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from sensorium.core.scalars import plain
from sensorium.language.durations import Clock, minutes_first, read_span, spelt_out, time_units

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


class Writing(NamedTuple):
    """How the numbers of a column are written: what decides where a cell alone does not.

    Args:
        decimal: The sign before decimals; None where no cell shows one, and 1,234 is then taken for thousands.
        grouped: Whether thousands are separated, by the other sign. Where cells have decimals and never thousands signs, a
            lone 1,234 among points is no number: it could be 1234 as well as 1.234.
        unit: What stands beside the numbers: ``cm``, ``%``, ``€``; ``s`` where ``spans``; empty where nothing does.
        spans: Whether cells are lengths of time, in seconds.
        clock: What 1:30 means in them.
    """

    decimal: Sign | None = None
    grouped: bool = True
    unit: str = ""
    spans: bool = False
    clock: Clock = "hm"


class Evidence(NamedTuple):
    """What the cells of a column say of how they are written: so many of each.

    Args:
        points: Cells that only a decimal point explains.
        commas: Cells that only a decimal comma explains.
        either: Cells such as 1,234, which may be thousands or decimals.
        units: Cells by unit.
        texts: Cells that are text and a number.
    """

    points: int
    commas: int
    either: int
    units: Counter[str]
    texts: int


class _Written(NamedTuple):
    """A written number: its values read with decimal points and with decimal commas, and what is beside it."""

    point: str
    comma: str
    says: Sign | None
    groups: bool
    unit: str
    negative: bool

    def value(self, decimal: Sign | None) -> float | None:
        try:
            value = float(self.comma if decimal == "comma" else self.point)
        except ValueError:
            return None
        return (-value if self.negative else value) if math.isfinite(value) else None

    @property
    def either(self) -> bool:
        return self.point != self.comma


def read_number(cell: Any, writing: Writing | None = None) -> float | None:
    """The finite number a cell stands for, or None where it is no number.

    Text may have a sign or the parentheses of accountants, thousands separators, a currency sign or ``%`` (``12 %`` is
    12). Without a ``writing`` a comma before exactly three digits separates thousands (``1,234`` is 1234) and any other
    single comma is a decimal one (``1,5`` and ``0,125``); with one, the column has decided.
    """
    if type(cell) is float or type(cell) is int:
        return _finite(cell)
    cell = plain(cell)
    writing = writing or Writing()
    if writing.spans and (seconds := read_span(cell, writing.clock)) is not None:
        return seconds
    if not isinstance(cell, str):
        return _finite(cell)
    found = _written(cell)
    if found is None or not (found.unit == writing.unit or _fits(found.unit, writing)):
        return None
    if found.either and writing.decimal is not None and not writing.grouped:
        # Of the two readings the one with a decimal sign is the other sign than the column's: neither can be trusted.
        decimals = "point" if "." in found.point else "comma"
        if decimals != writing.decimal:
            return None
    return found.value(writing.decimal)


def number_problem(cell: Any, writing: Writing) -> str:
    """Why ``read_number`` gives None, in words."""
    found = _written(cell) if isinstance(cell := plain(cell), str) else None
    said = f"{str(cell)[:60]!r}"
    if found is None or found.value(None) is None:
        return f"{said} is not a finite number"
    if found.unit and found.unit != writing.unit and not _fits(found.unit, writing):
        known = f"in {writing.unit!r}" if writing.unit else "without a unit"
        return f"{said} is in {found.unit!r}, and the training cells are {known}"
    sign = "points" if writing.decimal == "point" else "commas"
    return (
        f"{said} is {found.value('point'):g} or {found.value('comma'):g}: the training cells have decimal {sign} and no "
        f"thousands signs; write it without doubt, or train with the option decimal: point or comma"
    )


def writing_of(cells: Iterable[Any], decimal: Sign | None = None) -> tuple[Writing, Evidence]:
    """How a column's numbers are written, and what says so. ``decimal``: the sign where it is known."""
    points = commas = either = lone = spelt = count = written = 0
    objects = False
    units: Counter[str] = Counter()
    texts: list[str] = []
    grouped = {"point": False, "comma": False}
    for given in cells:
        cell = plain(given)
        count += 1
        if not isinstance(cell, str):
            objects = objects or (isinstance(cell, float) and math.isfinite(cell) and not cell.is_integer())
            spelt += read_span(cell) is not None
            continue
        if spelt_out(cell):
            spelt += 1
            texts.append(cell)
            continue
        found = _written(cell)
        if found is None:
            continue
        written += 1
        units.update([found.unit] if found.unit else [])
        points += found.says == "point"
        commas += found.says == "comma"
        if found.either:
            either += "." not in found.point
            lone += "." in found.point
            grouped["point" if "." not in found.point else "comma"] = True
        elif found.groups and found.says is not None:
            grouped[found.says] = True
    sign: Sign = decimal or ("comma" if commas > points else "point")
    fractions = points + commas > 0 or objects or (lone > 0 and sign == "point")
    # A rare one is a slip: such a cell is told of.
    common = [unit for unit, often in units.most_common() if unit and often > 0.02 * count]
    spans = spelt > 0 or (len(common) > 1 and all(map(time_units, common)))
    unit = "s" if spans else common[0] if common else ""
    writing = Writing(
        decimal=sign if decimal is not None or fractions else None,
        grouped=decimal is not None or grouped[sign] or not fractions,
        unit=unit,
        spans=spans,
        clock="ms" if spans and minutes_first(texts) else "hm",
    )
    return writing, Evidence(points, commas, either, units, written)


def is_money(unit: str) -> bool:
    """Whether a unit is one of money."""
    return _IS_MONEY.fullmatch(unit) is not None


def _fits(unit: str, writing: Writing) -> bool:
    """Whether a cell of this unit may stand in the column: one without any, or money where nothing else is known."""
    if not unit:
        return True
    if writing.unit:
        return False
    return is_money(unit) or unit == "%"


def _finite(cell: Any) -> float | None:
    if isinstance(cell, complex) or hasattr(cell, "__len__"):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _written(text: str) -> _Written | None:
    text = text.strip()
    if not text or len(text) > _LONGEST or "_" in text:
        return None
    if text.isascii() and text.isdigit():
        return _Written(text, text, None, False, "", False)
    text = unicodedata.normalize("NFKC", text).replace("−", "-")
    found = _FORM.fullmatch(text)
    if found is None or bool(found["open"]) != bool(found["close"]):
        return None
    signs = [sign for sign in (found["sign"], found["inner"], found["after"]) if sign]
    if len(signs) > 1 or (found["open"] and signs):
        return None
    if found["money"] and found["unit"] and found["unit"] != found["money"]:
        return None
    unit = _named(found["money"] or found["unit"] or "")
    body, power = found["body"], found["power"] or ""
    forms = _forms(body, power)
    if forms is None or unit in _ORDINALS:
        return None
    negative = bool(found["open"]) or signs == ["-"]
    return _Written(*forms, unit, negative)


def _forms(body: str, power: str) -> tuple[str, str, Sign | None, bool] | None:
    """The digits as ``float`` reads them, with decimal points and with decimal commas; what they say; whether grouped."""
    if body.isdigit():
        return body + power, body + power, None, False
    if _EITHER.fullmatch(body) and not power:
        bare, dotted = body.replace(",", "").replace(".", ""), body.replace(",", ".")
        return (dotted, bare, None, True) if "." in body else (bare, dotted, None, True)
    if _SPACED.fullmatch(body):
        form = re.sub("[ '’]", "", body)
        says: Sign | None = "comma" if "," in form else "point" if "." in form else None
        form = form.replace(",", ".") + power
        return form, form, says, True
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


def _named(unit: str) -> str:
    """A unit in one form: ``Years``, ``year`` and ``yrs.`` differ, but a plural does not count."""
    unit = unit.rstrip(".")
    return unit.lower().removesuffix("s") if len(unit) > 3 and unit.isalpha() and not unit.isupper() else unit

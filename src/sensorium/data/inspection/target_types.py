"""What a target is: classes or a quantity; and what of it looks like a gap. One rule for looking and for training."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sensorium.core import quoting, registry
from sensorium.core.modality import Modality, is_blank
from sensorium.core.schema import PLACING

FEW = 20
"""So few different whole numbers are taken for classes where they repeat, whatever the column is called."""
MANY = 1000
"""More classes than this are not guessed."""
OFTEN = 5
"""More than ``FEW`` whole numbers are classes only where they repeat so often, on average."""
_LABEL = re.compile(
    r"(?i)(^|[\W_])(labels?|class(es)?|categor(y|ies)|cls|types?|kinds?|species|genres?|topics?|intents?|clusters?)($|[\W_\d])"
    r"|标签|类别"
)
_ANSWER = re.compile(r"(?i)(y|target|answer|output|outcome)")
_PADDED = re.compile("0[0-9]+")


def target_kind(name: str, kind: str, reason: str, cells: Sequence[Any]) -> tuple[str, str]:
    """What a target is, and why: texts of any kind are classes; whole numbers where they repeat like classes.

    Up to ``FEW`` different whole numbers are classes unless hardly any occurs twice. More are classes if each occurs
    ``OFTEN`` and the column is called like one of classes; or called ``y`` or ``target`` and all are about as frequent, as
    the numbers of a quantity hardly are.
    """
    if kind not in ("number", "category", ""):
        return kind, reason
    filled = [cell for cell in cells if not is_blank(cell)]
    if not filled:
        return kind, reason
    texts = {cell.strip() if isinstance(cell, str) else str(cell) for cell in filled}
    number: Any = registry.build("modalities", {"kind": "number"})
    number.fit(filled)
    read = [number.value(cell) for cell in filled]
    counts = Counter(value for value in read if value is not None)
    other = len({str(cell).strip() for cell, value in zip(filled, read, strict=True) if value is None})
    # A few mistyped cells among many numbers are mistakes to be told of, not classes.
    if other and (kind != "number" or len(counts) <= FEW):
        return "category", f"{len(texts)} distinct values"
    if any(_PADDED.fullmatch(text) for text in texts):
        return "category", f"{len(texts)} distinct codes with leading zeros"
    distinct = len(counts)
    if not distinct or not all(value.is_integer() for value in counts):
        return "number", f"{distinct} distinct numbers"
    often = counts.total() / distinct
    said = f"{distinct} distinct whole numbers"
    if distinct <= FEW:
        if distinct <= 2 or often >= 2 or _LABEL.search(name):
            steps = distinct > 2 and max(counts) - min(counts) == distinct - 1
            return (
                "category",
                f"{said}; if they are steps on a scale: {quoting.as_kind(name, 'ordinal')}" if steps else said,
            )
        return "number", f"{said} in {counts.total()} rows; for classes: {quoting.as_kind(name, 'category')}"
    if often < OFTEN or distinct > MANY:
        return "number", said
    usual = statistics.median(counts.values())
    even = sum(usual / 3 <= count <= 3 * usual for count in counts.values()) >= 0.9 * distinct
    said = f"{said}, each {often:.0f} times on average"
    if _LABEL.search(name) or (_ANSWER.fullmatch(name) and even and distinct <= MANY / 10):
        return "category", f"{said}, in a column called {name!r}; for a quantity: {quoting.as_kind(name, 'number')}"
    return "number", f"{said}; for classes: {quoting.as_kind(name, 'category')}"


def gaps(cells: Sequence[Any], spec: Mapping[str, Any]) -> Counter[str]:
    """The texts of a target that count as gaps though something is written (``None``, ``NA``), each with its count.

    Only of classes with the option to keep them: a number that is not there has to be written somehow.
    """
    given = {key: value for key, value in spec.items() if key not in PLACING}
    modality: Modality = registry.build("modalities", given)
    if not modality.classed or getattr(modality, "gaps", "keep") == "keep":
        return Counter()
    texts = (cell.strip() for cell in cells if isinstance(cell, str) and modality.missing(cell))
    return Counter(text for text in texts if text)


def gaps_told(name: str, cells: Sequence[Any], spec: Mapping[str, Any]) -> str:
    """A sentence about the gaps of a target, with the remedy; empty where there are none."""
    found = gaps(cells, spec)
    if not found:
        return ""
    said = ", ".join(f"{count} say {text!r}" for text, count in found.most_common(4))
    return (
        f"{found.total()} of {len(cells)} cells of target {name!r} count as missing: {said}; if that is an "
        f"answer, keep it: {quoting.as_kind(name, '{kind: category, gaps: keep}')}"
    )

"""Whether a target is classes or a quantity, and which values count as missing; for inspection and training alike."""

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
"""Up to this many distinct integers are classes where they repeat, whatever the column's name."""
MANY = 1000
"""More distinct integers than this are never inferred to be classes."""
OFTEN = 5
"""More than ``FEW`` distinct integers are classes only where each occurs this often on average."""
_LABEL = re.compile(
    r"(?i)(^|[\W_])(labels?|class(es)?|categor(y|ies)|cls|types?|kinds?|species|genres?|topics?|intents?|clusters?)($|[\W_\d])"
    r"|标签|类别"
)
_ANSWER = re.compile(r"(?i)(y|target|answer|output|outcome)")
_PADDED = re.compile("0[0-9]+")


def target_kind(name: str, kind: str, reason: str, cells: Sequence[Any]) -> tuple[str, str]:
    """Infer whether a target is classes or a quantity, and why.

    Text is classes. Up to ``FEW`` distinct integers are classes unless hardly any repeats. More are classes if each occurs
    ``OFTEN`` times on average, and the column has a name like ``label``; or it has a name like ``target`` and all are about
    equally frequent, as values of a quantity rarely are.

    Args:
        name: The column.
        kind: The modality inferred from its cells.
        reason: Why.
        cells: All its cells.

    Returns:
        The modality and the reason.
    """
    if kind not in ("number", "category", ""):
        return kind, reason
    filled = [cell for cell in cells if not is_blank(cell)]
    if not filled:
        return kind, reason
    texts = {cell.strip() if isinstance(cell, str) else str(cell) for cell in filled}
    number: Any = registry.build("modalities", {"kind": "number"})
    number.fit(filled)
    values = [number.value(cell) for cell in filled]
    counts = Counter(value for value in values if value is not None)
    not_numbers = len({str(cell).strip() for cell, value in zip(filled, values, strict=True) if value is None})
    # A few mistyped cells among many numbers are errors to report, not classes.
    if not_numbers and (kind != "number" or len(counts) <= FEW):
        return "category", f"{len(texts)} distinct values"
    if any(_PADDED.fullmatch(text) for text in texts):
        return "category", f"{len(texts)} distinct codes with leading zeros"
    distinct = len(counts)
    if not distinct or not all(value.is_integer() for value in counts):
        return "number", f"{distinct} distinct numbers"
    repeats = counts.total() / distinct
    description = f"{distinct} distinct whole numbers"
    if distinct <= FEW:
        if distinct <= 2 or repeats >= 2 or _LABEL.search(name):
            steps = distinct > 2 and max(counts) - min(counts) == distinct - 1
            return (
                "category",
                f"{description}; if they are steps on a scale: {quoting.as_kind(name, 'ordinal')}"
                if steps
                else description,
            )
        return "number", f"{description} in {counts.total()} rows; for classes: {quoting.as_kind(name, 'category')}"
    if repeats < OFTEN or distinct > MANY:
        return "number", description
    usual = statistics.median(counts.values())
    balanced = sum(usual / 3 <= count <= 3 * usual for count in counts.values()) >= 0.9 * distinct
    description = f"{description}, each {repeats:.0f} times on average"
    if _LABEL.search(name) or (_ANSWER.fullmatch(name) and balanced and distinct <= MANY / 10):
        return "category", f"{description}, in a column called {name!r}; for a quantity: {quoting.as_kind(name, 'number')}"
    return "number", f"{description}; for classes: {quoting.as_kind(name, 'category')}"


def gaps(cells: Sequence[Any], spec: Mapping[str, Any]) -> Counter[str]:
    """Count the texts of a target that are read as missing, such as ``None`` or ``NA``.

    Only for targets of classes with the option to keep them.

    Args:
        cells: The target's cells.
        spec: Its kind and options.
    """
    options = {key: value for key, value in spec.items() if key not in PLACING}
    modality: Modality = registry.build("modalities", options)
    if not modality.classed or getattr(modality, "gaps", "keep") == "keep":
        return Counter()
    texts = (cell.strip() for cell in cells if isinstance(cell, str) and modality.missing(cell))
    return Counter(text for text in texts if text)


def missing_values_note(name: str, cells: Sequence[Any], spec: Mapping[str, Any]) -> str:
    """Return a note on the written values of a target that count as missing, with the remedy; empty where there are none.

    Args:
        name: The target.
        cells: Its cells.
        spec: Its kind and options.
    """
    counts = gaps(cells, spec)
    if not counts:
        return ""
    examples = ", ".join(f"{count} are {text!r}" for text, count in counts.most_common(4))
    return (
        f"{counts.total()} of {len(cells)} cells of target {name!r} count as missing: {examples}; if that is a "
        f"class, keep it: {quoting.as_kind(name, '{kind: category, gaps: keep}')}"
    )

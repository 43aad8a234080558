"""Target leakage: columns that determine the target, usually because they were recorded after it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sensorium.data.inspection.duplicate_rows import value

ROWS = 20
"""With fewer rows than this, chance rules are too likely."""
EXCEPTIONS = 0.005
CORRELATION = 0.9999


def leakage_rule(cells: Sequence[Any], answers: Sequence[Any]) -> str | None:
    """Return how a column's ``cells`` alone determine the target values ``answers``; None where they do not."""
    compared = zip(map(value, cells), map(value, answers), strict=True)
    pairs = [(cell, answer) for cell, answer in compared if cell is not None and answer is not None]
    if len(pairs) < ROWS or len({answer for _, answer in pairs}) < 2:
        return None
    return _value_rule(pairs) or _number_rule(pairs)


def _value_rule(pairs: list[tuple[Any, Any]]) -> str | None:
    answers: dict[Any, Counter[Any]] = defaultdict(Counter)
    for cell, answer in pairs:
        answers[cell][answer] += 1
    # A value that occurs once trivially determines its row's target.
    repeated = [counts for counts in answers.values() if counts.total() > 1]
    rows = sum(counts.total() for counts in repeated)
    if rows < 0.8 * len(pairs):
        return None
    right = sum(counts.most_common(1)[0][1] for counts in repeated)
    majority = sum(repeated, Counter()).most_common(1)[0][1]
    wrong, blind = rows - right, rows - majority
    if blind < 3 or wrong > min(EXCEPTIONS * rows, blind / 20):
        return None
    return (
        "each of its values occurs with a single target value"
        if wrong == 0
        else f"its values determine the target in {right} of {rows} rows"
    )


def _number_rule(pairs: list[tuple[Any, Any]]) -> str | None:
    numbers = [number(cell) for cell, _ in pairs]
    if any(x is None for x in numbers):
        return None
    x = np.array(numbers, dtype=np.float64)
    answers = [number(answer) for _, answer in pairs]
    classes = Counter(answer for _, answer in pairs)
    if len(classes) <= 50 and len(classes) <= len(pairs) / 4:
        return _threshold_rule(x, [answer for _, answer in pairs], classes)
    if any(y is None for y in answers):
        return None
    y = np.array(answers, dtype=np.float64)
    if x.std() == 0 or y.std() == 0:
        return None
    correlation = float(np.corrcoef(x, y)[0, 1])
    return f"it is the target on another scale (correlation {correlation:.5f})" if abs(correlation) > CORRELATION else None


def _threshold_rule(x: Any, answers: list[Any], classes: Counter[Any]) -> str | None:
    if sum(count >= 3 for count in classes.values()) < 2:
        return None
    order = np.argsort(x, kind="stable")
    changes = 0
    for i, j in pairwise(order):
        if answers[i] != answers[j]:
            changes += 1
            if x[i] == x[j] or changes >= len(classes):
                return None
    return "its ranges of numbers separate the classes"


def number(cell: Any) -> float | None:
    """Return ``cell`` as a finite number, or None."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None

"""Inference of column types: the modality of each column, and which columns are uninformative."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from sensorium.core import registry
from sensorium.core.modality import is_blank
from sensorium.data.inspection.disguised_cells import lookalike
from sensorium.data.shards.references import original_name
from sensorium.data.tables.table import Table

ORDER = ("images", "image", "audio", "series", "datetime", "number", "tags", "category", "text")
"""Precedence of modalities with equal scores, the more specific first; others come just before ``text``."""

_VARIED = frozenset(
    {"image", "images", "audio", "video", "series", "points", "vector", "graph", "molecule", "datetime"},
)
"""Kinds whose cells are usually all different, and informative nevertheless."""
_ID_NAME = re.compile(
    r"(?i:(^|[\W_])(id|uid|pid|idx|index|uuid|guid|nr|no|unnamed)([\W_]+\d+)?$)|[a-z](Id|ID|Uuid|UUID)$|编号|序号"
)
_INTEGER = re.compile(r"[+-]?\d{1,40}(\.0+)?")
_ID_DIGITS = 16
"""Integers with this many digits are identifiers, not counts."""
_PLAIN = re.compile(r"[+-]?\d+(\.\d*)?")
_CODE = re.compile(r"(?=\S*\d)[A-Za-z0-9_\-:/#]{1,40}")
_LETTER = re.compile(r"[A-Za-z]")


@dataclass(frozen=True)
class InferredType:
    """The inferred type of a column.

    Args:
        kind: The modality; empty where none recognises the cells.
        score: Confidence, 0 to 1.
        reason: Why, for the user to check; for role ``ignore``, why the column is ignored.
        alternatives: Other modalities that recognise cells, best first, with their scores.
        role: ``ignore`` where the column is uninformative (empty, constant, a row id).
        doubts: Sentences on what a user should check, with the remedy.
    """

    kind: str
    score: float
    reason: str
    alternatives: tuple[tuple[str, float], ...] = ()
    role: Literal["input", "target", "ignore"] = "input"
    doubts: tuple[str, ...] = ()


def infer_types(
    table: Table,
    *,
    names: Sequence[str] | None = None,
    overrides: Mapping[str, str] | None = None,
    targets: Collection[str] = (),
    allowed: Mapping[str, Collection[str]] | None = None,
    sample: int = 500,
) -> dict[str, InferredType]:
    """Infer the modality and role of each column.

    A column gets the modality whose ``sniff`` scores highest on a fixed random sample of its cells. A target only gets
    modalities that can be targets, and is never ignored.

    Args:
        table: The table.
        names: The columns; by default all.
        overrides: The user's choices: a modality, or ``ignore``, by column.
        targets: The target columns.
        allowed: By target column, the kinds that its task predicts; by default all kinds that can be targets.
        sample: Cells sampled; constant columns and row ids are detected on all cells.
    """
    choices = dict(overrides or {})
    types = {}
    for name in table.columns if names is None else names:
        filled = [cell for cell in table.column(name) if not is_blank(cell)]
        role: Literal["input", "target"] = "target" if name in targets else "input"
        if name in choices:
            types[name] = _as_chosen(choices[name], role)
            continue
        sampled = [original_name(cell) for cell in _sample(filled, sample)]
        kind, score, reason, alternatives = _kind(sampled, name, role == "target", (allowed or {}).get(name))
        ignored_because = None if role == "target" else _uninformative(name, filled, len(table), kind)
        if ignored_because is None and not kind and role == "input":
            ignored_because = "no modality recognises its cells"
        if ignored_because is None:
            doubt = lookalike(sampled, kind)
            types[name] = InferredType(kind, score, reason, alternatives, role, (doubt,) if doubt else ())
        else:
            types[name] = InferredType(kind, score, ignored_because, alternatives, "ignore")
    return types


def _as_chosen(kind: str, role: Literal["input", "target"]) -> InferredType:
    if kind == "ignore":
        return InferredType("", 1.0, "as specified", role="ignore")
    registry.find("modalities", kind)
    return InferredType(kind, 1.0, "as specified", role=role)


def _sample(cells: list[Any], count: int) -> list[Any]:
    if len(cells) <= count:
        return cells
    index = np.random.default_rng(0).choice(len(cells), count, replace=False)
    return [cells[i] for i in np.sort(index)]


def _kind(
    cells: list[Any], name: str, target: bool, allowed: Collection[str] | None = None
) -> tuple[str, float, str, tuple[tuple[str, float], ...]]:
    if not cells:
        return "", 0.0, "all cells are empty", ()
    scored = []
    # Skip media modalities for plain numbers: tables may have thousands of such columns.
    plain = all(isinstance(cell, (int, float)) or (isinstance(cell, str) and _PLAIN.fullmatch(cell)) for cell in cells)
    for kind in registry.kinds("modalities"):
        modality = registry.find("modalities", kind)
        if target and (modality.task is None if allowed is None else kind not in allowed):
            continue
        if plain and modality.__module__ == f"sensorium.modalities.{kind}" and modality.media:
            continue
        score, reason = modality.sniff(cells, name)
        if score > 0:
            scored.append((-score, _rank(kind), kind, reason))
    if not scored:
        return "", 0.0, "no modality recognises its cells", ()
    scored.sort()
    score, _, kind, reason = scored[0]
    return kind, -score, reason, tuple((alternative, -s) for s, _, alternative, _ in scored[1:])


def _rank(kind: str) -> float:
    return ORDER.index(kind) if kind in ORDER else len(ORDER) - 1.5


def _uninformative(name: str, cells: list[Any], rows: int, kind: str) -> str | None:
    """Return why a column cannot help any prediction, or None if it may."""
    if not cells:
        return "all cells are empty"
    if not all(isinstance(cell, (str, int, float)) for cell in cells):
        return None
    distinct = len(set(cells))
    if distinct == 1 and len(cells) == rows > 1:
        return f"the same in every row: {cells[0]!r:.40}"
    if distinct < len(cells) or len(cells) < rows or rows < 5:
        return None
    if kind in _VARIED:
        return None
    texts = [str(cell) for cell in cells]
    integers = all(_INTEGER.fullmatch(text) for text in texts)
    codes = all(_CODE.fullmatch(text) for text in texts)
    if (integers or codes) and _ID_NAME.search(name):
        return "a row id: different in every row, by its name and by its cells"
    # Only from 0 or 1: a column of years counts up too, but is informative.
    if integers and rows >= 20 and float(texts[0]) in (0, 1) and all(float(b) - float(a) == 1 for a, b in pairwise(texts)):
        return "a row number: it counts the rows"
    if integers and sum(len(text.lstrip("+-")) >= _ID_DIGITS for text in texts) > rows / 2:
        return f"a row id: whole numbers of {_ID_DIGITS} digits and more, different in every row"
    if codes and rows >= 20 and sum(bool(_LETTER.search(text)) for text in texts) > rows / 2 and kind != "number":
        return "looks like a row id: a short code, different in every row"
    return None

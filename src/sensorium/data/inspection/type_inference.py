"""What the columns of a table are: the modality of each, and which ones say nothing."""

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
from sensorium.data.shards.references import named
from sensorium.data.tables.table import Table

ORDER = ("images", "image", "audio", "series", "datetime", "number", "tags", "category", "text")
"""Who wins where two are equally sure: the one that fewer columns could be. Others come just before ``text``."""

_VARIED = frozenset(
    {"image", "images", "audio", "video", "series", "points", "vector", "graph", "molecule", "datetime"},
)
"""Kinds whose cells are usually all different, and no less telling for that."""
_ID_NAME = re.compile(
    r"(?i:(^|[\W_])(id|uid|pid|idx|index|uuid|guid|nr|no|unnamed)([\W_]+\d+)?$)|[a-z](Id|ID|Uuid|UUID)$|编号|序号"
)
_WHOLE = re.compile(r"[+-]?\d{1,40}(\.0+)?")
_HUGE = 16
"""Digits of whole numbers that count nothing: computers give them as names."""
_PLAIN = re.compile(r"[+-]?\d+(\.\d*)?")
_CODE = re.compile(r"(?=\S*\d)[A-Za-z0-9_\-:/#]{1,40}")
_LETTER = re.compile(r"[A-Za-z]")


@dataclass(frozen=True)
class Guessed:
    """What a column was taken for.

    Args:
        kind: The modality's name; empty where none recognised the cells.
        score: How surely, 0 to 1.
        reason: Why, in words a user can check; where the role is ``ignore``, why it is ignored.
        alternatives: The other modalities that recognised something, best first, with their scores.
        role: ``ignore`` where the column can teach nothing (empty, constant, a row id).
        doubts: What a user should look at, each a sentence with its remedy.
    """

    kind: str
    score: float
    reason: str
    alternatives: tuple[tuple[str, float], ...] = ()
    role: Literal["input", "target", "ignore"] = "input"
    doubts: tuple[str, ...] = ()


def guess(
    table: Table,
    *,
    names: Sequence[str] | None = None,
    overrides: Mapping[str, str] | None = None,
    targets: Collection[str] = (),
    sample: int = 500,
) -> dict[str, Guessed]:
    """The modality and role of each column.

    A column's modality is the one whose ``sniff`` is surest of a fixed random sample of its cells. A target is only taken
    for what can be a target, and is never ignored.

    Args:
        names: The columns to look at; by default all.
        overrides: Column to modality, or to ``ignore``, where the user has said it.
        targets: Columns to be predicted.
        sample: Cells looked at; whether a column is constant or a row id is checked on all of them.
    """
    told = dict(overrides or {})
    found = {}
    for name in table.columns if names is None else names:
        filled = [cell for cell in table.column(name) if not is_blank(cell)]
        role: Literal["input", "target"] = "target" if name in targets else "input"
        if name in told:
            found[name] = _as_told(told[name], role)
            continue
        looked_at = [named(cell) for cell in _sample(filled, sample)]
        kind, score, reason, others = _kind(looked_at, name, role == "target")
        silent = None if role == "target" else _says_nothing(name, filled, len(table), kind)
        if silent is None and not kind and role == "input":
            silent = "no modality recognises its cells"
        if silent is None:
            doubt = lookalike(looked_at, kind)
            found[name] = Guessed(kind, score, reason, others, role, (doubt,) if doubt else ())
        else:
            found[name] = Guessed(kind, score, silent, others, "ignore")
    return found


def _as_told(kind: str, role: Literal["input", "target"]) -> Guessed:
    if kind == "ignore":
        return Guessed("", 1.0, "as told", role="ignore")
    registry.find("modalities", kind)
    return Guessed(kind, 1.0, "as told", role=role)


def _sample(cells: list[Any], count: int) -> list[Any]:
    if len(cells) <= count:
        return cells
    index = np.random.default_rng(0).choice(len(cells), count, replace=False)
    return [cells[i] for i in np.sort(index)]


def _kind(cells: list[Any], name: str, target: bool) -> tuple[str, float, str, tuple[tuple[str, float], ...]]:
    if not cells:
        return "", 0.0, "all cells are empty", ()
    scored = []
    # Thousands of columns of numbers are not each held up to every kind of file.
    plain = all(isinstance(cell, (int, float)) or (isinstance(cell, str) and _PLAIN.fullmatch(cell)) for cell in cells)
    for kind in registry.kinds("modalities"):
        modality = registry.find("modalities", kind)
        if target and modality.task is None:
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
    return kind, -score, reason, tuple((other, -s) for s, _, other, _ in scored[1:])


def _rank(kind: str) -> float:
    return ORDER.index(kind) if kind in ORDER else len(ORDER) - 1.5


def _says_nothing(name: str, cells: list[Any], rows: int, kind: str) -> str | None:
    """Why a column cannot help to predict anything; None where it may."""
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
    whole = all(_WHOLE.fullmatch(text) for text in texts)
    code = all(_CODE.fullmatch(text) for text in texts)
    if (whole or code) and _ID_NAME.search(name):
        return "a row id: different in every row, by its name and by its cells"
    # From 0 or 1 only: a column of years counts too, and means something.
    if whole and rows >= 20 and float(texts[0]) in (0, 1) and all(float(b) - float(a) == 1 for a, b in pairwise(texts)):
        return "a row number: it counts the rows"
    if whole and sum(len(text.lstrip("+-")) >= _HUGE for text in texts) > rows / 2:
        return f"a row id: whole numbers of {_HUGE} digits and more, different in every row"
    if code and rows >= 20 and sum(bool(_LETTER.search(text)) for text in texts) > rows / 2 and kind != "number":
        return "looks like a row id: a short code, different in every row"
    return None

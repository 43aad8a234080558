"""Splits of rows into training and held-out parts: random, by group or by time, reproducible by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sensorium.core import registry
from sensorium.core.errors import ConfigError, DataError
from sensorium.core.modality import is_blank
from sensorium.core.plurals import counted
from sensorium.data.tables.table import Table

Index = NDArray[np.int64]
Kind = Literal["random", "group", "time"]
CLASSES = 100
"""A numeric column with more distinct values than this is not treated as classes; a text column always is."""
TRIALS = 16
"""Random draws of groups, of which the best is taken."""


def split(
    table: Table,
    *,
    part: float = 0.15,
    kind: Kind = "random",
    target: str | None = None,
    by: str | None = None,
    seed: int = 0,
) -> tuple[Index, Index]:
    """Return row indices for training and validation, each in the order of the table.

    Args:
        table: The table.
        part: The share of rows held out.
        kind: ``random`` stratifies by the target's classes (a class of two rows or more keeps one in training), ``group``
            keeps rows with the same ``by`` together, ``time`` holds out the latest rows by ``by``.
        target: The target column, stratified where it has classes.
        by: The column of groups or times. A row without a group is its own group; one without a time is in training.
        seed: Random seed.

    Raises:
        ConfigError: The options are invalid.
        DataError: The table cannot be split in this way.
    """
    if not 0 < part < 1:
        raise ConfigError(f"split: part must be a share between 0 and 1, not {part}", fix="for example part: 0.15")
    if kind not in ("random", "group", "time"):
        raise ConfigError(f"split: no kind named {kind!r}; there are: random, group, time")
    if kind != "random" and by is None:
        raise ConfigError(f"split: kind {kind} needs a column", fix="name it: by: patient")
    if len(table) < 2:
        raise DataError(f"{counted(len(table), 'row')} cannot be split", file=table.source, fix="give a validation table")
    classes = _classes(table, target)
    held_out_rows = min(max(round(part * len(table)), 1), len(table) - 1)
    rng = np.random.default_rng(seed)
    if kind == "time":
        held_out = _latest(table, str(by), held_out_rows)
    elif kind == "group":
        held_out = _whole_groups(_codes(table.column(str(by))), classes, held_out_rows, rng, table, str(by))
    else:
        held_out = _stratified(classes, held_out_rows, rng)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def folds(
    table: Table,
    count: int = 5,
    *,
    kind: Literal["random", "group"] = "random",
    target: str | None = None,
    by: str | None = None,
    seed: int = 0,
) -> list[tuple[Index, Index]]:
    """Return ``count`` pairs (training, validation) of row indices; every row is in exactly one validation part.

    Args:
        table: The table.
        count: The number of folds.
        kind: ``random`` stratifies by class, ``group`` keeps rows with the same ``by`` together.
        target: The target column, stratified where it has classes.
        by: The column of groups.
        seed: Random seed.

    Raises:
        ConfigError: The options are invalid.
    """
    if kind == "group" and by is None:
        raise ConfigError("folds: kind group needs a column", fix="name it: by: patient")
    rng = np.random.default_rng(seed)
    group = _codes(table.column(str(by))) if kind == "group" else np.arange(len(table))
    sizes = np.bincount(group, minlength=1)
    if not 2 <= count <= len(sizes):
        what = "groups" if kind == "group" else "rows"
        raise ConfigError(f"folds: {count} folds of {len(sizes)} {what}", fix=f"choose from 2 to {len(sizes)}")
    order = rng.permutation(len(sizes))
    if kind == "group":
        fold_of = np.empty(len(sizes), dtype=np.int64)
        filled = np.zeros(count, dtype=np.int64)
        # Largest groups first, each to the smallest fold: sizes differ by at most the size of one group.
        for g in order[np.argsort(-sizes[order], kind="stable")]:
            fold_of[g] = filled.argmin()
            filled[fold_of[g]] += sizes[g]
        fold = fold_of[group]
    else:
        classes = _classes(table, target)
        dealt = order[np.argsort(classes[order], kind="stable")]
        fold = np.empty(len(table), dtype=np.int64)
        fold[dealt] = np.arange(len(table)) % count
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]


def _codes(cells: Sequence[Any]) -> Index:
    """Return an integer for each distinct value; blank and unhashable cells are all distinct."""
    code_of: dict[Any, int] = {}
    codes = np.empty(len(cells), dtype=np.int64)
    for i, cell in enumerate(cells):
        unique = is_blank(cell) or not isinstance(cell, (str, int, float, bytes, date))
        codes[i] = code_of.setdefault(("alone", i) if unique else cell, len(code_of))
    return codes


def _classes(table: Table, target: str | None) -> Index:
    """Return the class of each row, constant if the target has no classes; rows without a target form their own class."""
    classes = np.zeros(len(table), dtype=np.int64)
    if target is None:
        return classes
    cells = table.column(target)
    filled = np.array([not is_blank(cell) for cell in cells])
    values = [cell for cell in cells if not is_blank(cell)]
    codes = _codes(values)
    distinct = int(codes.max(initial=-1)) + 1
    if not _is_text(values) and (distinct > CLASSES or distinct > max(len(codes) / 2, 2)):
        return classes
    if distinct == len(codes):
        return classes
    classes[filled] = codes + 1
    return classes


def _is_text(cells: Sequence[Any]) -> bool:
    """Return whether most cells are text that is not a number."""
    number: Any = registry.build("modalities", {"kind": "number"})
    number.fit(cells)
    return sum(isinstance(cell, str) and number.value(cell) is None for cell in cells) > len(cells) / 2


def _stratified(classes: Index, held_out_rows: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    order = rng.permutation(len(classes))
    names, sizes = np.unique(classes, return_counts=True)
    quota = sizes * (held_out_rows / len(classes))
    take = np.minimum(np.floor(quota).astype(np.int64), sizes - 1)
    remainder = quota - take
    # With very many classes, choose at random rather than by position.
    class_order = rng.permutation(len(sizes)) if len(sizes) > CLASSES else np.arange(len(sizes))
    # Assign the remaining rows by largest remainder, leaving every class one row in training.
    for c in class_order[np.argsort(-remainder[class_order], kind="stable")]:
        if take.sum() < held_out_rows and take[c] < sizes[c] - 1:
            take[c] += 1
    held_out = np.zeros(len(classes), dtype=np.bool_)
    for name, count in zip(names, take, strict=True):
        held_out[order[classes[order] == name][:count]] = True
    if not held_out.any():
        held_out[order[-1]] = True
    return held_out


def _whole_groups(
    group: Index, classes: Index, held_out_rows: int, rng: np.random.Generator, table: Table, by: str
) -> NDArray[np.bool_]:
    sizes = np.bincount(group)
    if len(sizes) < 2:
        fix = "choose another column, or another kind of split"
        raise DataError("all rows are in one group: nothing can be held out", file=table.source, column=by, fix=fix)
    total = np.bincount(classes)
    best, held_out = math.inf, np.zeros(len(group), dtype=np.bool_)
    # Best of several greedy draws, by distance from the wanted share and the class shares.
    for _ in range(TRIALS):
        chosen = np.zeros(len(sizes), dtype=np.bool_)
        count, left = 0, len(sizes) - 1
        for g in rng.permutation(len(sizes)):
            if abs(count + sizes[g] - held_out_rows) < abs(count - held_out_rows) and left:
                chosen[g] = True
                count, left = count + int(sizes[g]), left - 1
            if count >= held_out_rows:
                break
        if not chosen.any():
            chosen[sizes.argmin()] = True
        rows = chosen[group]
        ideal = total * (held_out_rows / len(group))
        cost = float(np.abs(np.bincount(classes[rows], minlength=len(total)) - ideal).sum()) + abs(
            rows.sum() - held_out_rows
        )
        if cost < best:
            best, held_out = cost, rows
    return held_out


def _latest(table: Table, by: str, held_out_rows: int) -> NDArray[np.bool_]:
    times = _times(table, by)
    dated = np.isfinite(times)
    moments = np.unique(times[dated])
    if len(moments) < 2:
        raise DataError(
            "all rows have the same time: none is later", file=table.source, column=by, fix="choose another column"
        )
    # Rows of equal time stay together; split at the time that comes nearest to the wanted share.
    later = np.array([(times >= moment).sum() for moment in moments[1:]])
    start = moments[1:][np.abs(later - held_out_rows).argmin()]
    held_out: NDArray[np.bool_] = times >= start
    return held_out


def _times(table: Table, by: str) -> NDArray[np.float64]:
    """Return the time of each row, in seconds or the column's own unit; minus infinity where missing.

    The column is parsed as numbers, or else as dates, from all its cells.
    """
    cells = table.column(by)
    filled = [cell for cell in cells if not is_blank(cell)]
    number: Any = registry.build("modalities", {"kind": "number"})
    date: Any = registry.build("modalities", {"kind": "datetime"})
    for modality in (number, date):
        modality.fit(filled)

    def dated(cell: Any) -> float | None:
        moment = date.moment(cell)
        return None if moment is None else float(moment[1])

    numbers = [number.value(cell) for cell in filled]
    moments = numbers if None not in numbers else [dated(cell) for cell in filled]
    # Report an unreadable cell under the interpretation that fits most cells.
    read = iter(min((numbers, moments), key=lambda values: values.count(None)))
    times = np.full(len(cells), -math.inf)
    for i, cell in enumerate(cells):
        if not is_blank(cell):
            value = next(read)
            if value is None:
                fix = "write times as numbers or as 2024-05-31 14:30"
                raise DataError(
                    f"{str(cell)[:60]!r} is not a time", file=table.source, row=table.number(i), column=by, fix=fix
                )
            times[i] = value
    return times

"""Checks of counted tables: errors that prevent training, and warnings to read before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import listed
from sensorium.core.plurals import counted
from sensorium.data.inspection.class_counts import classes
from sensorium.data.inspection.duplicate_rows import Digests, duplicate_pairs, keys, shared_pairs
from sensorium.data.inspection.results import Inspection
from sensorium.data.inspection.target_types import missing_values_note
from sensorium.data.inspection.type_inference import InferredType
from sensorium.data.inspection.unreadable_formats import unread_columns
from sensorium.data.tables.table import Table

FEW = 5
"""Classes with fewer rows than this are reported."""


def check_columns(
    report: Inspection, tables: Mapping[str, Table], types: Mapping[str, InferredType], inputs: Sequence[str]
) -> None:
    """Add errors and warnings on columns: uninformative, absent from a table, or with unusable cells.

    Args:
        report: Receives them.
        tables: The tables; the first is the training table.
        types: The inferred type of each column.
        inputs: The input columns.
    """
    train = next(iter(tables))
    report.warnings += [note for table in tables.values() for note in table.notes]
    report.warnings += unread_columns(tables[train], {n: g.kind for n, g in types.items() if g.role != "target"})
    if not report.tables[train]:
        report.errors.append(f"{train} has no rows")
    elif not inputs:
        report.errors.append("there is no column to learn from")
    report.warnings += [
        f"column {name!r} is ignored: {column.reason}"
        for name, column in types.items()
        if column.role == "ignore" and column.reason != "as specified"
    ]
    for name, table in list(tables.items())[1:]:
        absent = [n for n in inputs if not table.has(n)]
        if absent:
            report.warnings.append(f"{name} has no column {listed(absent)}: missing in all its rows")
        extra = [n for n in table.columns if n not in types]
        if extra:
            report.warnings.append(f"{name} has columns that {train} lacks: {listed(extra)}; they are not read")
    for column in report.columns:
        for name, share in column.filled.items():
            usual = column.filled[train]
            if column.role == "input" and report.tables[name] and abs(share - usual) > 0.1:
                report.warnings.append(
                    f"column {column.name!r} is filled in {usual:.0%} of {train}, but in {share:.0%} of {name}"
                )
    for name, unusable in report.problems.items():
        if unusable:
            where = Counter(problem.column for problem in unusable)
            counts = listed(f"{count} in {column!r}" for column, count in where.items())
            problem_text = counted(
                len(unusable), "cell cannot be used and counts as missing", "cells cannot be used and count as missing"
            )
            report.warnings.append(f"{name}: {problem_text}: {counts}")


def check_targets(report: Inspection, tables: Mapping[str, Table], specs: Mapping[str, Mapping[str, Any]]) -> None:
    """Add errors and warnings on targets: missing, rare or constant values, and classes that only later tables have.

    Args:
        report: Receives them.
        tables: The tables; the first is the training table.
        specs: Kind and options by column.
    """
    train = next(iter(tables))
    for target in report.targets:
        name, known = target.name, target.classes
        if not target.kind:
            report.errors.append(f"target {name!r}: its cells are empty, or cannot be predicted")
            continue
        if _single(target.kind) and len(known) == 1:
            report.errors.append(f"target {name!r} has one class only, {next(iter(known))!r}: there is nothing to learn")
        if target.range is not None and target.range[0] == target.range[2]:
            report.errors.append(f"target {name!r} is {target.range[0]:g} in every row: there is nothing to learn")
        rare = [c for c, count in known.items() if count < FEW]
        if rare and len(known) > 1:
            names = ", ".join(rare[:8]) + (", ..." if len(rare) > 8 else "")
            report.warnings.append(f"target {name!r}: classes with fewer than {FEW} rows: {names}")
        if target.majority is not None and target.majority > 0.9 and _single(target.kind) and len(known) > 1:
            report.warnings.append(
                f"target {name!r}: {target.majority:.1%} of rows are {next(iter(known))!r}; accuracy will say little"
            )
        for key, table in tables.items():
            if table.has(name) and (gaps := missing_values_note(name, table.column(name), specs[name])):
                report.warnings.append(f"{key}: {gaps}")
        for key, count in target.missing.items():
            if count:
                teach = "teaches" if count == 1 else "teach"
                what = f"{teach} nothing about it" if key == train else "cannot be scored"
                report.warnings.append(f"{key}: {counted(count, 'row')} without {name!r} {what}")
        for key, table in list(tables.items())[1:]:
            if not table.has(name):
                report.warnings.append(f"{key} has no column {name!r}: it cannot be scored")
            elif known:
                new = [c for c in classes(table.column(name), specs[name])[0] if c not in known]
                if new:
                    names = ", ".join(f"{c}{_near(c, known)}" for c in new[:8])
                    report.warnings.append(f"{key}: classes of {name!r} that {train} does not have: {names}")


def _single(kind: str) -> bool:
    return bool(registry.find("modalities", kind).single)


def _near(value: str, known: Mapping[str, int]) -> str:
    """A hint at the known class that a value may be misspelt for; empty where none is similar."""
    lower = {name.casefold(): name for name in known}
    close = get_close_matches(value.casefold(), list(lower), n=1, cutoff=0.7)
    return f" (did you mean {lower[close[0]]!r}?)" if close else ""


def check_repeats(
    report: Inspection,
    tables: Mapping[str, Table],
    inputs: Sequence[str],
    targets: Sequence[str],
    digests: Mapping[str, Digests],
) -> None:
    """Add warnings on duplicate rows and media, within a table and across tables (leaks).

    Args:
        report: Receives them.
        tables: The tables.
        inputs: The input columns.
        targets: The target columns.
        digests: Content digests of media columns, by table.
    """
    input_keys = {name: keys(table, inputs, digests[name]) for name, table in tables.items()}
    for name, table in tables.items():
        row_keys = keys(table, [*inputs, *targets], digests[name])
        pairs = duplicate_pairs(row_keys)
        if pairs:
            first, second = (table.number(i) for i in pairs[0])
            report.warnings.append(
                f"{name}: {counted(len(pairs), 'row repeats', 'rows repeat')} an earlier row "
                f"(rows {first} and {second} are the same)"
            )
        target_keys = keys(table, targets, {})
        conflicts = [
            (i, j)
            for i, j in duplicate_pairs(input_keys[name])
            if target_keys[i] and target_keys[j] and target_keys[i] != target_keys[j]
        ]
        if conflicts:
            first, second = (table.number(i) for i in conflicts[0])
            report.warnings.append(
                f"{name}: {counted(len(conflicts), 'row has', 'rows have')} the same inputs as another row but "
                f"a different target (rows {first} and {second})"
            )
    names = list(tables)
    for a, b in ((a, b) for i, a in enumerate(names) for b in names[i + 1 :]):
        pairs = shared_pairs(input_keys[a], input_keys[b])
        if pairs:
            first, second = tables[a].number(pairs[0][0]), tables[b].number(pairs[0][1])
            report.warnings.append(
                f"leak: {counted(len(pairs), 'row')} of {b} {'is' if len(pairs) == 1 else 'are'} in {a} too "
                f"(row {second} of {b} is row {first} of {a})"
            )
        known = {j for _, j in pairs}
        for column in digests[a]:
            if column in digests[b]:
                shared = [p for p in shared_pairs(digests[a][column], digests[b][column]) if p[1] not in known]
                if shared:
                    first, second = tables[a].number(shared[0][0]), tables[b].number(shared[0][1])
                    report.warnings.append(
                        f"leak: {counted(len(shared), 'row')} of {b} {'has' if len(shared) == 1 else 'have'} a {column!r} "
                        f"that rows of {a} have too "
                        f"(row {second} of {b}, row {first} of {a})"
                    )

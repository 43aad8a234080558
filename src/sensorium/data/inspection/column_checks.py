"""What to say about tables once everything was counted: errors that stop a training, warnings to read before one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import listed
from sensorium.core.plurals import counted
from sensorium.data.inspection.class_counts import classes
from sensorium.data.inspection.duplicate_rows import Digests, across, keys, within
from sensorium.data.inspection.results import Inspection
from sensorium.data.inspection.target_types import gaps_told
from sensorium.data.inspection.type_inference import Guessed
from sensorium.data.inspection.unreadable_formats import unread_columns
from sensorium.data.tables.table import Table

FEW = 5


def check_columns(
    report: Inspection, tables: Mapping[str, Table], found: Mapping[str, Guessed], inputs: Sequence[str]
) -> None:
    """Columns that teach nothing, that one table lacks, or that hold cells which cannot be used."""
    train = next(iter(tables))
    report.warnings += [note for table in tables.values() for note in table.notes]
    report.warnings += unread_columns(tables[train], {n: g.kind for n, g in found.items() if g.role != "target"})
    if not report.tables[train]:
        report.errors.append(f"{train} has no rows")
    elif not inputs:
        report.errors.append("there is no column to learn from")
    report.warnings += [
        f"column {n!r} is ignored: {g.reason}" for n, g in found.items() if g.role == "ignore" and g.reason != "as told"
    ]
    for name, table in list(tables.items())[1:]:
        absent = [n for n in inputs if not table.has(n)]
        if absent:
            report.warnings.append(f"{name} has no column {listed(absent)}: missing in all its rows")
        extra = [n for n in table.columns if n not in found]
        if extra:
            report.warnings.append(f"{name} has columns that {train} lacks: {listed(extra)}; they are not read")
    for column in report.columns:
        for name, share in column.filled.items():
            usual = column.filled[train]
            if column.role == "input" and report.tables[name] and abs(share - usual) > 0.1:
                report.warnings.append(
                    f"column {column.name!r} is filled in {usual:.0%} of {train}, but in {share:.0%} of {name}"
                )
    for name, bad in report.problems.items():
        if bad:
            where = Counter(problem.column for problem in bad)
            said = listed(f"{count} in {column!r}" for column, count in where.items())
            lost = counted(
                len(bad), "cell cannot be used and counts as missing", "cells cannot be used and count as missing"
            )
            report.warnings.append(f"{name}: {lost}: {said}")


def check_targets(report: Inspection, tables: Mapping[str, Table], specs: Mapping[str, Mapping[str, Any]]) -> None:
    """Answers that are missing, rare, all the same, or new in a later table."""
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
            said = ", ".join(rare[:8]) + (", ..." if len(rare) > 8 else "")
            report.warnings.append(f"target {name!r}: classes with fewer than {FEW} rows: {said}")
        if target.majority is not None and target.majority > 0.9 and _single(target.kind) and len(known) > 1:
            report.warnings.append(
                f"target {name!r}: {target.majority:.1%} of rows are {next(iter(known))!r}; accuracy will say little"
            )
        for key, table in tables.items():
            if table.has(name) and (lost := gaps_told(name, table.column(name), specs[name])):
                report.warnings.append(f"{key}: {lost}")
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
                    said = ", ".join(f"{c}{_near(c, known)}" for c in new[:8])
                    report.warnings.append(f"{key}: classes of {name!r} that {train} does not have: {said}")


def _single(kind: str) -> bool:
    return bool(registry.find("modalities", kind).single)


def _near(value: str, known: Mapping[str, int]) -> str:
    """The known class that a value may stand for, in words; empty where none is near."""
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
    """Rows and media that occur twice."""
    said = {name: keys(table, inputs, digests[name]) for name, table in tables.items()}
    for name, table in tables.items():
        whole = keys(table, [*inputs, *targets], digests[name])
        pairs = within(whole)
        if pairs:
            one, other = (table.number(i) for i in pairs[0])
            report.warnings.append(
                f"{name}: {counted(len(pairs), 'row repeats', 'rows repeat')} an earlier row "
                f"(rows {one} and {other} are the same)"
            )
        answers = keys(table, targets, {})
        torn = [(i, j) for i, j in within(said[name]) if answers[i] and answers[j] and answers[i] != answers[j]]
        if torn:
            one, other = (table.number(i) for i in torn[0])
            report.warnings.append(
                f"{name}: {counted(len(torn), 'row says', 'rows say')} the same as another row but "
                f"{'has' if len(torn) == 1 else 'have'} another answer (rows {one} and {other})"
            )
    names = list(tables)
    for a, b in ((a, b) for i, a in enumerate(names) for b in names[i + 1 :]):
        pairs = across(said[a], said[b])
        if pairs:
            one, other = tables[a].number(pairs[0][0]), tables[b].number(pairs[0][1])
            report.warnings.append(
                f"leak: {counted(len(pairs), 'row')} of {b} {'is' if len(pairs) == 1 else 'are'} in {a} too "
                f"(row {other} of {b} is row {one} of {a})"
            )
        known = {j for _, j in pairs}
        for column in digests[a]:
            if column in digests[b]:
                shared = [p for p in across(digests[a][column], digests[b][column]) if p[1] not in known]
                if shared:
                    one, other = tables[a].number(shared[0][0]), tables[b].number(shared[0][1])
                    report.warnings.append(
                        f"leak: {counted(len(shared), 'row')} of {b} {'has' if len(shared) == 1 else 'have'} a {column!r} "
                        f"that rows of {a} have too "
                        f"(row {other} of {b}, row {one} of {a})"
                    )

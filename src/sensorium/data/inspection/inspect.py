"""A look at tables before training: what each column is, what is broken, what leaks, what will not work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sensorium.core import registry
from sensorium.core.modality import Modality, is_blank
from sensorium.core.schema import PLACING, Opener, Problem
from sensorium.core.text_columns import shorten
from sensorium.data.derived_columns import offered, sources, with_derived
from sensorium.data.files.media_access import Under
from sensorium.data.inspection.class_counts import classes
from sensorium.data.inspection.column_checks import check_columns, check_repeats, check_targets
from sensorium.data.inspection.column_format import reading
from sensorium.data.inspection.column_groups import hints
from sensorium.data.inspection.duplicate_rows import Digests, value
from sensorium.data.inspection.invalid_cells import unusable
from sensorium.data.inspection.media_checks import decode, reader
from sensorium.data.inspection.outliers import lie
from sensorium.data.inspection.results import ColumnReport, Inspection, TargetReport
from sensorium.data.inspection.target_leakage import gives_away
from sensorium.data.inspection.target_types import target_kind
from sensorium.data.inspection.type_inference import Guessed, guess
from sensorium.data.tables.table import Table

Progress = Callable[[str, int, int], None]
"""What is being done, how many are done, of how many."""


def inspect(
    tables: Mapping[str, Table],
    *,
    target: str | Sequence[str] | None = None,
    columns: Mapping[str, str | Mapping[str, Any]] | None = None,
    media: Opener | None = None,
    check_media: bool = True,
    progress: Progress | None = None,
) -> Inspection:
    """Looks at every row of every table, the first of which is the one for training.

    Args:
        target: The column or columns to be predicted.
        columns: What the user said of columns, as in a recipe: ``image`` or ``{kind: image, role: ignore, ...}``.
        media: What opens media cells; by default files from anywhere, relative paths from the table's folder.
        check_media: Open and decode every media cell. Otherwise copies under other names are not found either.
        progress: Told about the decoding.
    """
    specs = {name: {"kind": s} if isinstance(s, str) else dict(s) for name, s in (columns or {}).items()}
    derived = sources(next(iter(tables.values())), specs)
    tables = with_derived(tables, derived)
    train = next(iter(tables.values()))
    targets = [target] if isinstance(target, str) else list(target or [])
    targets += [name for name, spec in specs.items() if spec.get("role") == "target" and name not in targets]
    told = _told(specs)
    for name in [*targets, *specs]:
        if told.get(name) != "ignore":  # what is ignored may be a derived column that is only offered further down
            train.column(name)
    found = guess(train, overrides=told, targets=targets)
    for name in targets:
        if name not in told:
            kind, reason = target_kind(name, found[name].kind, found[name].reason, train.column(name))
            found[name] = replace(found[name], kind=kind, reason=reason)
    seen = {n: g.kind for n, g in found.items() if g.kind and g.role == "input" and n not in derived}
    offers = offered(train, seen, set(derived.values()), media or _opener(train)) if check_media else {}
    for name in told.keys() - found.keys() - offers.keys():
        train.column(name)
    offers = {name: spec for name, spec in offers.items() if name not in told}
    found |= {name: Guessed(spec["kind"], 1.0, f"comes with {spec['of']!r}") for name, spec in offers.items()}
    specs |= offers
    tables = with_derived(tables, {name: spec["of"] for name, spec in offers.items()})
    train = next(iter(tables.values()))
    spec_of = {
        name: {**{k: v for k, v in specs.get(name, {}).items() if k not in PLACING}, "kind": g.kind}
        for name, g in found.items()
        if g.kind and g.role != "ignore"
    }
    doubts = [f"column {name!r}: {doubt}" for name, g in found.items() if g.role != "ignore" for doubt in g.doubts]
    for name, spec in spec_of.items():
        if name not in derived and train.has(name):
            read = reading(name, spec, train.column(name), found[name].role)
            spec |= read.options
            doubts += [f"column {name!r}: {doubt}" for doubt in read.doubts]
            if read.how:
                found[name] = replace(found[name], reason=f"{found[name].reason}; {read.how}")
    kinds = {name: registry.find("modalities", spec["kind"]) for name, spec in spec_of.items()}
    inputs = [name for name in spec_of if found[name].role == "input"]

    problems: dict[str, list[Problem]] = {name: [] for name in tables}
    digests: dict[str, dict[str, list[bytes | None]]] = {name: {} for name in tables}
    for column in [name for name in inputs if check_media and (kinds[name].media or kinds[name].checked)]:
        modality = reader(train, column, spec_of[column], media or _opener(train))
        for name, table in tables.items():
            if table.has(column):
                tell = _teller(progress, f"{name}: {column}", len(table))
                result = decode(table, column, modality, media or _opener(table), progress=tell)
                problems[name] += result.problems
                digests[name][column] = result.digests

    for name, spec in spec_of.items():
        if name not in derived and train.has(name):
            bad, new = unusable(name, spec, tables, name in targets)
            doubts += new
            for key, cells in bad.items():
                problems[key] += cells

    inspection = Inspection(
        tables={name: len(table) for name, table in tables.items()},
        columns=[_column(name, found[name], tables, train) for name in train.columns],
        targets=[_target(name, spec_of.get(name), tables, train) for name in targets],
        streams=_streams(tables, {name: kinds[name] for name in inputs}, digests),
        problems=problems,
        warnings=doubts,
    )
    check_columns(inspection, tables, found, inputs)
    check_targets(inspection, tables, spec_of)
    check_repeats(inspection, tables, inputs, targets, digests)
    inspection.hints += hints([name for name in inputs if kinds[name].stream is not None], inputs, specs)
    for name in targets:
        for other in inputs:
            how = None if kinds[other].media else gives_away(train.column(other), train.column(name))
            if how is not None:
                fix = "ignore it if it is not known when predictions are made"
                inspection.warnings.append(f"column {other!r} gives {name!r} away: {how}; {fix}")
    return inspection


def _told(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    told = {}
    for name, spec in specs.items():
        if spec.get("role", "input") not in ("input", "target"):
            told[name] = "ignore"
        elif "kind" in spec:
            told[name] = spec["kind"]
    return told


def _opener(table: Table) -> Opener:
    return Under(table.root or ".", anywhere=True)


def _teller(progress: Progress | None, what: str, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(what, done, total)


def _column(name: str, guessed: Guessed, tables: Mapping[str, Table], train: Table) -> ColumnReport:
    filled = {
        key: 1 - sum(map(is_blank, table.column(name))) / max(len(table), 1)
        for key, table in tables.items()
        if table.has(name)
    }
    counts = Counter(v for v in map(value, train.column(name)) if v is not None)
    examples = [
        "<content>" if isinstance(v, bytes) else shorten(" ".join(str(v)[:200].split()), 24)
        for v, _ in counts.most_common(3)
    ]
    return ColumnReport(name, guessed.kind, guessed.role, guessed.reason, filled, len(counts), examples)


def _target(name: str, spec: Mapping[str, Any] | None, tables: Mapping[str, Table], train: Table) -> TargetReport:
    if spec is None:
        missing = {k: sum(map(is_blank, t.column(name))) for k, t in tables.items() if t.has(name)}
        return TargetReport(name, "", {}, None, None, missing)
    modality: Modality = registry.build("modalities", spec)
    missing = {k: sum(map(modality.missing, t.column(name))) for k, t in tables.items() if t.has(name)}
    counts, rows = classes(train.column(name), spec)
    if counts:
        return TargetReport(name, spec["kind"], dict(counts.most_common()), max(counts.values()) / rows, None, missing)
    modality.fit([cell for cell in train.column(name) if not modality.missing(cell)])
    found = lie(train, name, modality)
    if found is None:
        return TargetReport(name, spec["kind"], {}, None, None, missing)
    limits = (found.low, found.mean, found.high)
    return TargetReport(name, spec["kind"], {}, None, limits, missing, found.median, found.outliers, found.told())


def _streams(
    tables: Mapping[str, Table], kinds: Mapping[str, type[Modality]], digests: Mapping[str, Digests]
) -> list[tuple[tuple[str, ...], dict[str, int]]]:
    streams: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        streams.setdefault(kind.stream or name, []).append(name)
    patterns: dict[tuple[str, ...], Counter[str]] = {}
    for key, table in tables.items():
        there = []
        for columns in streams.values():
            cells = [
                digests[key].get(c) or [None if is_blank(v) else v for v in table.column(c)]
                for c in columns
                if table.has(c)
            ]
            there.append(
                [any(v is not None for v in row) for row in zip(*cells, strict=True)] if cells else [False] * len(table)
            )
        for row in zip(*there, strict=True):
            pattern = tuple(stream for stream, present in zip(streams, row, strict=True) if present)
            patterns.setdefault(pattern, Counter())[key] += 1
    return sorted(((p, dict(c)) for p, c in patterns.items()), key=lambda item: -sum(item[1].values()))

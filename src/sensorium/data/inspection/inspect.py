"""Inspection of tables before training: column types, unusable cells, leakage, targets that cannot be learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sensorium.core import registry
from sensorium.core.cell_content import Opener
from sensorium.core.modality import Modality, is_blank
from sensorium.core.schema import PLACING, Problem
from sensorium.core.text_columns import shorten
from sensorium.data.derived_columns import declared_sources, offered_columns, with_derived
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.inspection.class_counts import classes
from sensorium.data.inspection.column_checks import check_columns, check_repeats, check_targets
from sensorium.data.inspection.column_format import reading
from sensorium.data.inspection.column_groups import hints
from sensorium.data.inspection.duplicate_rows import Digests, value
from sensorium.data.inspection.invalid_cells import unusable
from sensorium.data.inspection.media_checks import decode, reader
from sensorium.data.inspection.outliers import distribution_of
from sensorium.data.inspection.results import ColumnReport, Inspection, TargetReport
from sensorium.data.inspection.target_leakage import leakage_rule
from sensorium.data.inspection.target_types import target_kind
from sensorium.data.inspection.type_inference import InferredType, infer_types
from sensorium.data.tables.table import Table

Progress = Callable[[str, int, int], None]
"""Receives what is being done, how many are done, and the total."""


def inspect(
    tables: Mapping[str, Table],
    *,
    target: str | Sequence[str] | None = None,
    columns: Mapping[str, str | Mapping[str, Any]] | None = None,
    media: Opener | None = None,
    check_media: bool = True,
    progress: Progress | None = None,
) -> Inspection:
    """Inspect every row of every table and return the findings.

    Args:
        tables: The tables by name; the first is the training table.
        target: The target column or columns.
        columns: The user's column options, as in a recipe: ``image`` or ``{kind: image, role: ignore, ...}``.
        media: Opens media cells; by default any file, with relative paths from the table's folder.
        check_media: Whether to open and decode every media cell; without it, copied media are not found either.
        progress: Receives the progress of decoding.
    """
    specs = {name: {"kind": s} if isinstance(s, str) else dict(s) for name, s in (columns or {}).items()}
    derived = declared_sources(next(iter(tables.values())), specs)
    tables = with_derived(tables, derived)
    train = next(iter(tables.values()))
    targets = [target] if isinstance(target, str) else list(target or [])
    targets += [name for name, spec in specs.items() if spec.get("role") == "target" and name not in targets]
    declared_kinds = _declared_kinds(specs)
    for name in [*targets, *specs]:
        if declared_kinds.get(name) != "ignore":  # an ignored column may be a derived one, offered only below
            train.column(name)
    guesses = infer_types(train, overrides=declared_kinds, targets=targets)
    for name in targets:
        if name not in declared_kinds:
            kind, reason = target_kind(name, guesses[name].kind, guesses[name].reason, train.column(name))
            guesses[name] = replace(guesses[name], kind=kind, reason=reason)
    input_kinds = {n: g.kind for n, g in guesses.items() if g.kind and g.role == "input" and n not in derived}
    offers = offered_columns(train, input_kinds, set(derived.values()), media or _opener(train)) if check_media else {}
    for name in declared_kinds.keys() - guesses.keys() - offers.keys():
        train.column(name)
    offers = {name: spec for name, spec in offers.items() if name not in declared_kinds}
    guesses |= {name: InferredType(spec["kind"], 1.0, f"comes with {spec['of']!r}") for name, spec in offers.items()}
    specs |= offers
    tables = with_derived(tables, {name: spec["of"] for name, spec in offers.items()})
    train = next(iter(tables.values()))
    spec_of = {
        name: {**{k: v for k, v in specs.get(name, {}).items() if k not in PLACING}, "kind": g.kind}
        for name, g in guesses.items()
        if g.kind and g.role != "ignore"
    }
    doubts = [f"column {name!r}: {doubt}" for name, g in guesses.items() if g.role != "ignore" for doubt in g.doubts]
    for name, spec in spec_of.items():
        if name not in derived and train.has(name):
            parsed = reading(name, spec, train.column(name), guesses[name].role)
            spec |= parsed.options
            doubts += [f"column {name!r}: {doubt}" for doubt in parsed.doubts]
            if parsed.how:
                guesses[name] = replace(guesses[name], reason=f"{guesses[name].reason}; {parsed.how}")
    kinds = {name: registry.find("modalities", spec["kind"]) for name, spec in spec_of.items()}
    inputs = [name for name in spec_of if guesses[name].role == "input"]

    problems: dict[str, list[Problem]] = {name: [] for name in tables}
    digests: dict[str, dict[str, list[bytes | None]]] = {name: {} for name in tables}
    looked_at = [*inputs, *(name for name in targets if name in kinds and kinds[name].media)]
    for column in [name for name in looked_at if check_media and (kinds[name].media or kinds[name].checked)]:
        modality = reader(train, column, spec_of[column], media or _opener(train))
        for name, table in tables.items():
            if table.has(column):
                cell_progress = _column_progress(progress, f"{name}: {column}", len(table))
                result = decode(table, column, modality, media or _opener(table), progress=cell_progress)
                problems[name] += result.problems
                digests[name][column] = result.digests

    for name, spec in spec_of.items():
        if name not in derived and train.has(name):
            unusable_cells, value_warnings = unusable(name, spec, tables, name in targets)
            doubts += value_warnings
            for key, cells in unusable_cells.items():
                problems[key] += cells

    inspection = Inspection(
        tables={name: len(table) for name, table in tables.items()},
        columns=[_column(name, guesses[name], tables, train) for name in train.columns],
        targets=[_target(name, spec_of.get(name), tables, train) for name in targets],
        streams=_streams(tables, {name: kinds[name] for name in inputs}, digests),
        problems=problems,
        warnings=doubts,
    )
    check_columns(inspection, tables, guesses, inputs)
    check_targets(inspection, tables, spec_of)
    check_repeats(inspection, tables, inputs, targets, digests)
    inspection.hints += hints([name for name in inputs if kinds[name].stream is not None], inputs, specs)
    for name in targets:
        for other in inputs:
            rule = None if kinds[other].media else leakage_rule(train.column(other), train.column(name))
            if rule is not None:
                fix = "ignore it if it is not known when predictions are made"
                inspection.warnings.append(f"column {other!r} gives {name!r} away: {rule}; {fix}")
    return inspection


def _declared_kinds(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    kinds = {}
    for name, spec in specs.items():
        if spec.get("role", "input") not in ("input", "target"):
            kinds[name] = "ignore"
        elif "kind" in spec:
            kinds[name] = spec["kind"]
    return kinds


def _opener(table: Table) -> Opener:
    return LocalFiles(table.root or ".", anywhere=True)


def _column_progress(progress: Progress | None, what: str, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(what, done, total)


def _column(name: str, guessed: InferredType, tables: Mapping[str, Table], train: Table) -> ColumnReport:
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
    if modality.media:
        return TargetReport(name, spec["kind"], {}, None, None, missing)
    counts, rows = classes(train.column(name), spec)
    if counts:
        return TargetReport(name, spec["kind"], dict(counts.most_common()), max(counts.values()) / rows, None, missing)
    modality.fit([cell for cell in train.column(name) if not modality.missing(cell)])
    spread = distribution_of(train, name, modality)
    if spread is None:
        return TargetReport(name, spec["kind"], {}, None, None, missing)
    limits = (spread.low, spread.mean, spread.high)
    return TargetReport(
        name,
        spec["kind"],
        {},
        None,
        limits,
        missing,
        spread.median,
        spread.outliers,
        spread.outlier_note(),
    )


def _streams(
    tables: Mapping[str, Table], kinds: Mapping[str, type[Modality]], digests: Mapping[str, Digests]
) -> list[tuple[tuple[str, ...], dict[str, int]]]:
    streams: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        streams.setdefault(kind.stream or name, []).append(name)
    patterns: dict[tuple[str, ...], Counter[str]] = {}
    for key, table in tables.items():
        present_by_stream = []
        for columns in streams.values():
            cells = [
                digests[key].get(c) or [None if is_blank(v) else v for v in table.column(c)]
                for c in columns
                if table.has(c)
            ]
            present_by_stream.append(
                [any(v is not None for v in row) for row in zip(*cells, strict=True)] if cells else [False] * len(table)
            )
        for row in zip(*present_by_stream, strict=True):
            pattern = tuple(stream for stream, present in zip(streams, row, strict=True) if present)
            patterns.setdefault(pattern, Counter())[key] += 1
    return sorted(((p, dict(c)) for p, c in patterns.items()), key=lambda item: -sum(item[1].values()))

"""From a table and what the user said to declared columns, with the reason for each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sensorium.core import quoting
from sensorium.core.errors import ConfigError, DataError, listed, nearest
from sensorium.core.goal import TaskSpec, task_spec
from sensorium.core.modality import is_blank
from sensorium.core.recipe import Recipe, Spec
from sensorium.core.registry import find, split
from sensorium.core.schema import CODED, INPUTS, TARGETS, Schema
from sensorium.data.derived_columns import offered, sources
from sensorium.data.files.media_access import Under
from sensorium.data.inspection.class_counts import classes
from sensorium.data.inspection.column_format import reading
from sensorium.data.inspection.column_groups import Patterns, groups
from sensorium.data.inspection.target_types import FEW, gaps_told, target_kind
from sensorium.data.inspection.type_inference import guess
from sensorium.data.tables.table import Table


class Declared(NamedTuple):
    """A schema not yet fitted, by column what it was taken for and why, and what to warn of."""

    schema: Schema
    reasons: dict[str, tuple[str, str, str]]
    """name → (role, kind, reason)"""
    doubts: list[str]


def declare(table: Table, recipe: Recipe, targets: Collection[str], roles: Mapping[str, str]) -> Declared:
    """The columns of a run: what the recipe says, then what the user said, then what the cells look like.

    Args:
        targets: Columns that the user names as targets, besides those of the recipe's tasks.
        roles: Column to ``ignore``, ``group`` or ``weight``.
    """
    told: dict[str, dict[str, Any]] = {name: _document(spec) for name, spec in recipe.columns.items()}
    tasks = [task_spec(name, spec) for name, spec in recipe.model.tasks.items()]
    targets = list(dict.fromkeys([*targets, *(name for task in tasks for name in task.targets)]))
    for name in dict.fromkeys(name for task in tasks for name in task.prompts):
        told.setdefault(name, {})["role"] = "prompt"
    derived = sources(table, told)
    # What is ignored may be a derived column that is only offered further down.
    ignored = {name for name, role in roles.items() if role == "ignore"}
    ignored |= {name for name, spec in told.items() if spec.get("role") == "ignore"}
    unknown = [name for name in [*told, *targets, *roles] if not table.has(name) and name not in derived]
    for name in unknown:
        if name not in ignored:
            raise DataError(f"no column named {name!r}{nearest(name, table.columns)}", file=table.source)
    for name in targets:
        # What is said to be an input as well stays one.
        told.setdefault(name, {})["role"] = "both" if told.get(name, {}).get("role") == "both" else "target"
    for name, role in roles.items():
        told.setdefault(name, {})["role"] = role
    if table.target is not None and not tasks and not any(spec.get("role") in TARGETS for spec in told.values()):
        told.setdefault(table.target, {}).setdefault("role", "target")
    wanted = [name for name, spec in told.items() if spec.get("role") in TARGETS]
    if not wanted and not any(not task.targets for task in tasks):
        raise ConfigError("no column is named as the target", fix=f"--target COLUMN; there are: {listed(table.columns)}")
    silent = {name for name, spec in told.items() if spec.get("role", "input") not in CODED}
    overrides = {name: str(spec["kind"]) for name, spec in told.items() if "kind" in spec and name not in silent}
    names = [name for name in table.columns if name not in silent]
    guesses = guess(table, names=names, overrides=overrides, targets=wanted)
    columns: dict[str, dict[str, Any]] = {}
    reasons: dict[str, tuple[str, str, str]] = {}
    doubts: list[str] = []
    for name in table.columns:
        if name in silent:
            role = str(told[name]["role"])
            columns[name], reasons[name] = {"role": role}, (role, "", "as told")
            continue
        found = guesses[name]
        kind, reason = found.kind, found.reason
        if name in wanted and name not in overrides:
            kind, reason = target_kind(name, kind, reason, table.column(name))
        if found.role == "ignore" and not {"kind", "role"} & told.get(name, {}).keys():
            columns[name], reasons[name] = {"role": "ignore"}, ("ignore", "", reason)
            continue
        role = str(told.get(name, {}).get("role", "input"))
        if not kind and role == "target" and all(map(is_blank, table.column(name))):
            raise DataError("the target is empty in every row", file=table.source, column=name)
        if not kind:
            fix = f"{quoting.as_kind(name, 'KIND')} or {quoting.ignoring([name])}"
            raise DataError(f"cannot tell what it holds: {reason}", file=table.source, column=name, fix=fix)
        answered = any(name in task.targets for task in tasks if "kind" in task.spec)
        if role in TARGETS and not answered and find("modalities", kind).task is None:
            raise ConfigError(
                f"a column of kind {kind} cannot be a target", column=name, fix=quoting.as_kind(name, "category")
            )
        columns[name] = {**_task_options(tasks, name, kind), **told.get(name, {}), "kind": kind, "role": role}
        # The whole column decides what its cells mean, and the recipe keeps it.
        read = reading(name, columns[name], table.column(name), role)
        columns[name] |= read.options
        reasons[name] = (role, kind, f"{reason}; {read.how}" if read.how else reason)
        doubts += [f"column {name!r}: {doubt}" for doubt in (*found.doubts, *read.doubts)]
        if role == "target" and (lost := gaps_told(name, table.column(name), columns[name])):
            doubts.append(lost)
    for name, of in derived.items():
        role = str(told[name].get("role", "input"))
        columns[name] = {**told[name], "of": of, "role": role}
        reasons[name] = (role, str(told[name].get("kind", "")), f"as told, read from {of!r}")
    kinds = {name: spec["kind"] for name, spec in columns.items() if spec.get("role") in INPUTS and name not in derived}
    opener = Under(table.root or Path.cwd(), anywhere=True)
    for name, spec in offered(table, kinds, set(derived.values()), opener).items():
        role = "ignore" if name in ignored else "input"
        columns[name] = {**spec, "role": role}
        reasons[name] = (role, spec["kind"], "as told" if role == "ignore" else f"comes with {spec['of']!r}")
    for name in unknown:
        if name not in columns:
            raise DataError(f"no column named {name!r}{nearest(name, table.columns)}", file=table.source)
    _assign_streams(columns, recipe.streams)
    _set_base_columns(columns)
    schema = Schema.declare(columns)
    if not schema.inputs:
        raise DataError("no column is left to learn from", file=table.source, fix="name fewer with --ignore")
    return Declared(schema, reasons, doubts)


def _task_options(tasks: list[TaskSpec], name: str, kind: str) -> dict[str, Any]:
    """What the tasks of a target ask of it."""
    mine = [str(task.spec["kind"]) for task in tasks if name in task.targets and "kind" in task.spec]
    return {key: value for one in mine for key, value in find("tasks", one).asks.get(kind, {}).items()}


def _assign_streams(columns: dict[str, dict[str, Any]], patterns: Patterns) -> None:
    """Put the columns that patterns name into their groups, beside those that say it themselves."""
    inputs = [name for name, spec in columns.items() if spec["role"] in INPUTS]
    for name, stream in groups(patterns, list(columns), inputs).items():
        if columns[name].setdefault("stream", stream) != stream:
            problem = f"is in two groups, {columns[name]['stream']!r} and {stream!r}"
            raise ConfigError(problem, column=name, fix="leave one of them out")


def _set_base_columns(columns: dict[str, dict[str, Any]]) -> None:
    """Lay each target of a kind that lies on something on the one input of that kind; where there are several, ask."""
    for name, spec in columns.items():
        if spec.get("role") not in TARGETS or "on" in spec:
            continue
        kinds = find("modalities", spec["kind"]).lies_on
        under = [n for n, other in columns.items() if other.get("role", "input") in INPUTS and other.get("kind") in kinds]
        if len(under) > 1:
            names = ", ".join(under)
            raise ConfigError(
                f"lies on one of several inputs: {names}",
                column=name,
                fix=quoting.assigned(["columns", name, "on"], under[0]),
            )
        if under:
            spec["on"] = under[0]


def check_targets(schema: Schema, table: Table) -> None:
    """What must hold of targets before any training."""
    for column in schema.targets:
        cells = [cell for cell in table.column(column.source) if not column.reader.missing(cell)]
        if not cells:
            raise DataError("the target is empty in every row", file=table.source, column=column.name)
        if column.reader.stream is None:
            continue  # of files, texts and the like it is not for the cells themselves to differ
        category = column.reader.single
        values = classes(cells, column.spec)[0] if category else {str(cell).strip() for cell in cells}
        if len(values) < 2:
            raise DataError(
                f"the target is {cells[0]!r} in every row: there is nothing to learn",
                file=table.source,
                column=column.name,
                fix="give rows with at least two different answers",
            )
        if category and len(values) == len(cells) > FEW:
            raise DataError(
                f"all {len(cells)} answers are different classes: there is nothing to learn",
                file=table.source,
                column=column.name,
                fix=f"name another target, or say what it is: {quoting.as_kind(column.name, 'number')}",
            )


def _document(spec: Spec) -> dict[str, Any]:
    if isinstance(spec, str):
        return {"kind": spec}
    if "kind" in spec:
        split(spec)
    return dict(spec)

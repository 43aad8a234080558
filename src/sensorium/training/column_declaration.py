"""Declaration of columns: role, kind and options of each, from the recipe, the user and the cells, with the reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from sensorium.core import quoting
from sensorium.core.errors import ConfigError, DataError, listed, nearest
from sensorium.core.goal import TaskSpec, task_spec
from sensorium.core.modality import is_blank
from sensorium.core.recipe import Recipe, Spec
from sensorium.core.registry import find, split
from sensorium.core.schema import CODED, INPUTS, TARGETS, Schema
from sensorium.data.derived_columns import declared_sources, offered_columns
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.inspection.class_counts import classes
from sensorium.data.inspection.column_format import reading
from sensorium.data.inspection.column_groups import Patterns, groups
from sensorium.data.inspection.target_types import FEW, missing_values_note, target_kind
from sensorium.data.inspection.type_inference import InferredType, infer_types
from sensorium.data.made_rows import MARK
from sensorium.data.tables.table import Table
from sensorium.training.target_patterns import expanded


class Declared(NamedTuple):
    """A schema that is not yet fitted, the reason for each column, and warnings."""

    schema: Schema
    reasons: dict[str, tuple[str, str, str]]
    """name → (role, kind, reason)"""
    doubts: list[str]


def declare(table: Table, recipe: Recipe, targets: Collection[str], roles: Mapping[str, str]) -> Declared:
    """Declare the columns of a run: as the recipe says, then as the user says, then as the cells suggest.

    Args:
        table: The training table.
        recipe: The recipe.
        targets: Target columns named by the user, besides those of the recipe's tasks.
        roles: Column to ``ignore``, ``group`` or ``weight``.

    Raises:
        DataError: A column does not exist or has no recognisable kind, a target is empty, or no input is left.
        ConfigError: There is no target, or a column cannot be one.
    """
    specs: dict[str, dict[str, Any]] = {name: _document(spec) for name, spec in recipe.columns.items()}
    tasks = [expanded(task_spec(name, spec), table.columns) for name, spec in recipe.model.tasks.items()]
    targets = list(dict.fromkeys([*targets, *(name for task in tasks for name in task.targets)]))
    _set_prompts(tasks, specs)
    if table.has(MARK):
        specs[MARK] = {"role": "ignore"}
    _ignore_others(tasks, table, specs, {*targets, *roles})
    read_as = _kinds_of_targets(tasks, specs)
    for name, kind in read_as.items():
        specs.setdefault(name, {})["kind"] = kind
    derived = declared_sources(table, specs)
    # An ignored name may be a derived column that is only offered further down.
    ignored = {name for name, role in roles.items() if role == "ignore"}
    ignored |= {name for name, spec in specs.items() if spec.get("role") == "ignore"}
    unknown = [name for name in [*specs, *targets, *roles] if not table.has(name) and name not in derived]
    for name in unknown:
        if name not in ignored:
            raise DataError(f"no column named {name!r}{nearest(name, table.columns)}", file=table.source)
    all_targets = _set_roles(tasks, table, specs, targets, roles)
    uncoded = {name for name, spec in specs.items() if spec.get("role", "input") not in CODED}
    overrides = {name: str(spec["kind"]) for name, spec in specs.items() if "kind" in spec and name not in uncoded}
    names = [name for name in table.columns if name not in uncoded]
    guesses = infer_types(
        table, names=names, overrides=overrides, targets=all_targets, allowed=_kinds_allowed(tasks, read_as)
    )
    declaration = _Declaration(table, tasks, specs, overrides, all_targets, read_as)
    columns: dict[str, dict[str, Any]] = {}
    reasons: dict[str, tuple[str, str, str]] = {}
    doubts: list[str] = []
    for name in table.columns:
        if name in uncoded:
            role = str(specs[name]["role"])
            columns[name], reasons[name] = {"role": role}, (role, "", "as specified")
        else:
            columns[name], reasons[name], column_doubts = declaration.of(name, guesses[name])
            doubts += column_doubts
    for name, source in derived.items():
        role = str(specs[name].get("role", "input"))
        columns[name] = {**specs[name], "of": source, "role": role}
        reasons[name] = (role, str(specs[name].get("kind", "")), f"as specified, read from {source!r}")
    kinds = {name: spec["kind"] for name, spec in columns.items() if spec.get("role") in INPUTS and name not in derived}
    opener = LocalFiles(table.root or Path.cwd(), anywhere=True)
    for name, spec in offered_columns(table, kinds, set(derived.values()), opener).items():
        role = "ignore" if name in ignored else "input"
        columns[name] = {**spec, "role": role}
        reasons[name] = (role, spec["kind"], "as specified" if role == "ignore" else f"comes with {spec['of']!r}")
    for name in unknown:
        if name not in columns:
            raise DataError(f"no column named {name!r}{nearest(name, table.columns)}", file=table.source)
    _assign_streams(columns, recipe.streams)
    _set_base_columns(columns, tasks, table, reasons)
    schema = Schema.declare(columns)
    if not schema.inputs:
        inputs = "add a column of inputs: pictures, recordings, numbers, texts"
        fix = "name fewer with --ignore" if ignored else f"{inputs}; targets and prompts are none"
        raise DataError("no column is left to learn from", file=table.source, fix=fix)
    return Declared(schema, reasons, doubts)


@dataclass(frozen=True)
class _Declaration:
    """Declares the columns of a table one by one, from what the recipe, the user and the tasks say of them.

    Args:
        table: The training table.
        tasks: The tasks of the recipe.
        specs: What the recipe, the user and the tasks say of each column.
        overrides: The kind of each column whose kind is named.
        targets: The target columns.
        read_as: The kind of each target whose task determines it.
    """

    table: Table
    tasks: list[TaskSpec]
    specs: Mapping[str, Mapping[str, Any]]
    overrides: Mapping[str, str]
    targets: Collection[str]
    read_as: Mapping[str, str]

    def of(self, name: str, inferred: InferredType) -> tuple[dict[str, Any], tuple[str, str, str], list[str]]:
        """Return the spec of a column, its role, kind and reason, and warnings; ``inferred`` is what its cells suggest."""
        spec, cells = self.specs.get(name, {}), self.table.column(name)
        kind, reason = self._kind(name, inferred)
        if inferred.role == "ignore" and not {"kind", "role"} & spec.keys():
            return {"role": "ignore"}, ("ignore", "", reason), []
        role = str(spec.get("role", "input"))
        self._check(name, role, kind, reason)
        usual = _task_options(self.tasks, name, kind) | (self._input_options.get(kind, {}) if role == "input" else {})
        column = {**usual, **spec, "kind": kind, "role": role}
        # The format of the cells is decided from the whole column and kept in the recipe.
        read = reading(name, column, cells, role)
        column |= read.options
        doubts = [f"column {name!r}: {doubt}" for doubt in (*inferred.doubts, *read.doubts)]
        if role == "target" and (gaps := missing_values_note(name, cells, column)):
            doubts.append(gaps)
        return column, (role, kind, f"{reason}; {read.how}" if read.how else reason), doubts

    def _kind(self, name: str, inferred: InferredType) -> tuple[str, str]:
        """Return the kind of a column, empty if it is not recognisable, and the reason."""
        kind, reason = inferred.kind, "as its task reads it" if name in self.read_as else inferred.reason
        if name in self.overrides:
            return kind, reason
        task_kind = self._read_inputs.get(kind)
        if task_kind is not None and name not in self.targets:
            kind, reason = task_kind, f"{reason}; the task reads them as {task_kind}"
        if name in self.targets or name in self._conditions:
            return target_kind(name, kind, reason, self.table.column(name))
        return kind, reason

    def _check(self, name: str, role: str, kind: str, reason: str) -> None:
        """Refuse a column that has no recognisable kind or cannot be a target."""
        if not kind and role == "target" and all(map(is_blank, self.table.column(name))):
            raise DataError("the target is empty in every row", file=self.table.source, column=name)
        if not kind:
            fix = f"{quoting.as_kind(name, 'KIND')} or {quoting.ignoring([name])}"
            raise DataError(f"cannot tell what it holds: {reason}", file=self.table.source, column=name, fix=fix)
        has_task = any(name in task.targets for task in self.tasks if "kind" in task.spec)
        if role in TARGETS and not has_task and find("modalities", kind).task is None:
            raise ConfigError(
                f"a column of kind {kind} cannot be a target", column=name, fix=quoting.as_kind(name, "category")
            )

    @cached_property
    def _read_inputs(self) -> dict[str, str]:
        """The kinds that tasks read inputs as, by the kind that the cells suggest."""
        return {kind: read for task in self._classes for kind, read in task.reads_inputs.items()}

    @cached_property
    def _input_options(self) -> dict[str, dict[str, Any]]:
        """The options that tasks set in input columns, by kind."""
        return {kind: options for task in self._classes for kind, options in task.input_defaults.items()}

    @cached_property
    def _conditions(self) -> set[str]:
        """The columns that condition a generated row, which are read like targets."""
        return {name for task in self.tasks for name in task.given if _class_of(task).conditioned}

    @property
    def _classes(self) -> list[Any]:
        return [_class_of(task) for task in self.tasks if "kind" in task.spec]


def _class_of(task: TaskSpec) -> Any:
    return find("tasks", str(task.spec["kind"]))


def _set_prompts(tasks: list[TaskSpec], specs: dict[str, dict[str, Any]]) -> None:
    """Set the role, and the kind where the task determines it, of the prompt columns in ``specs``."""
    for task in tasks:
        for name, kind in zip(task.prompts, _prompt_kinds(task), strict=True):
            spec = specs.setdefault(name, {})
            spec["role"] = "prompt"
            if kind is not None:
                spec.setdefault("kind", kind)


def _set_roles(
    tasks: list[TaskSpec],
    table: Table,
    specs: dict[str, dict[str, Any]],
    targets: Collection[str],
    roles: Mapping[str, str],
) -> list[str]:
    """Set the roles of targets and of the columns in ``roles`` in ``specs``; return all target columns."""
    for name in targets:
        # A target that the recipe declares an input as well stays both.
        specs.setdefault(name, {})["role"] = "both" if specs.get(name, {}).get("role") == "both" else "target"
    for name, role in roles.items():
        specs.setdefault(name, {})["role"] = role
    if table.target is not None and not tasks and not any(spec.get("role") in TARGETS for spec in specs.values()):
        specs.setdefault(table.target, {}).setdefault("role", "target")
    for name in table.annotations:
        if not specs.get(name, {}).keys() & {"role", "kind"}:
            specs.setdefault(name, {})["role"] = "ignore"  # what is annotated says what the target is
    all_targets = [name for name, spec in specs.items() if spec.get("role") in TARGETS]
    if not all_targets and not any(not task.targets for task in tasks):
        raise ConfigError("no target column is named", fix=f"--target COLUMN; there are: {listed(table.columns)}")
    return all_targets


def _kinds_allowed(tasks: list[TaskSpec], read_as: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the kinds that a target may be, where its task reads columns of several kinds; not those in ``read_as``."""
    kinds = [(task, find("tasks", str(task.spec["kind"]))) for task in tasks if "kind" in task.spec]
    return {
        name: task_class.predicts
        for task, task_class in kinds
        for name in (task.targets if task_class.gathers == "" else ())
        if name not in read_as
    }


def _ignore_others(tasks: list[TaskSpec], table: Table, specs: dict[str, dict[str, Any]], others: Collection[str]) -> None:
    """Ignore the columns of ``table`` that no task reads, where every task names the columns it is given.

    ``others`` are columns with another role; ``specs`` are changed in place.
    """
    if not tasks or not all(task.given for task in tasks):
        return
    given = {name for task in tasks for name in task.given}
    for name in given:
        if not table.has(name) and name not in specs:
            raise DataError(f"no column named {name!r}{nearest(name, table.columns)}", file=table.source)
    for name in table.columns:
        if name not in given and name not in others and "role" not in specs.get(name, {}):
            specs.setdefault(name, {})["role"] = "ignore"


def _kinds_of_targets(tasks: list[TaskSpec], specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the kinds as which tasks read their targets, where the user names none."""
    kinds: dict[str, str | None] = {}
    for task in tasks:
        if "kind" in task.spec:
            task_class = find("tasks", str(task.spec["kind"]))
            kind = task_class.gathers if task_class.gathers and len(task.targets) > 1 else task_class.reads_as
            kinds |= {name: kind for name in task.targets if "kind" not in specs.get(name, {})}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _prompt_kinds(task: TaskSpec) -> list[str | None]:
    """Return the kind that a task reads each of its prompt columns as; None where the cells decide."""
    named = list(find("tasks", str(task.spec["kind"])).prompted.values()) if "kind" in task.spec else []
    return [named[i] if i < len(named) else None for i in range(len(task.prompts))]


def _task_options(tasks: list[TaskSpec], name: str, kind: str) -> dict[str, Any]:
    """Return the column options that the tasks of a target require."""
    task_kinds = [str(task.spec["kind"]) for task in tasks if name in task.targets and "kind" in task.spec]
    return {key: value for task in task_kinds for key, value in find("tasks", task).target_defaults.get(kind, {}).items()}


def _assign_streams(columns: dict[str, dict[str, Any]], patterns: Patterns) -> None:
    """Assign the columns that patterns match to their streams, besides those whose spec names a stream."""
    inputs = [name for name, spec in columns.items() if spec["role"] in INPUTS]
    for name, stream in groups(patterns, list(columns), inputs).items():
        if columns[name].setdefault("stream", stream) != stream:
            problem = f"is in two groups, {columns[name]['stream']!r} and {stream!r}"
            raise ConfigError(problem, column=name, fix="leave one of them out")


def _set_base_columns(
    columns: dict[str, dict[str, Any]],
    tasks: list[TaskSpec],
    table: Table,
    reasons: dict[str, tuple[str, str, str]],
) -> None:
    """Set the option ``on`` of targets that lie on an input (masks, boxes); refuse where several inputs are possible.

    The options that their tasks require of that input, or that the targets suggest, are set too; the latter are added to
    the reason of the input.
    """
    named = {name: [str(t.spec["kind"]) for t in tasks if name in t.targets and "kind" in t.spec] for name in columns}
    for name, spec in columns.items():
        if spec.get("role") not in TARGETS or "on" in spec:
            continue
        modality = find("modalities", spec["kind"])
        on_tasks = [kind for task in named[name] for kind in find("tasks", task).lies_on]
        kinds = () if modality.lies_along else modality.lies_on or on_tasks
        inputs = {n: other.get("kind") for n, other in columns.items() if other.get("role", "input") in INPUTS}
        under = [n for n, kind in inputs.items() if kind in kinds]
        under = under or [n for n, kind in inputs.items() if kind in modality.lies_on_else]
        if len(under) > 1:
            names = ", ".join(under)
            raise ConfigError(
                f"lies on one of several inputs: {names}",
                column=name,
                fix=quoting.assigned(["columns", name, "on"], under[0]),
            )
        if under:
            spec["on"] = under[0]
    lying: dict[tuple[str, str, tuple[str, ...]], None] = {}
    for name, spec in columns.items():
        if spec.get("role") not in TARGETS or spec.get("on") not in columns:
            continue
        usual = find("modalities", spec["kind"]).task
        for kind in named[name] or ([] if usual is None else [usual]):
            together = next((t.targets for t in tasks if name in t.targets and t.spec.get("kind") == kind), (name,))
            lying[kind, spec["on"], together] = None
    for kind, on, together in lying:
        base, task_class = columns[on], find("tasks", kind)
        cells = {name: table.column(columns[name].get("of", name)) for name in together if name in columns}
        suggested, why = task_class.base_options(base.get("kind", ""), cells)
        if any(key not in base for key in suggested):
            role, base_kind, reason = reasons[on]
            reasons[on] = (role, base_kind, f"{reason}; {why}")
        for key, value in {**suggested, **task_class.base_defaults.get(base.get("kind", ""), {})}.items():
            base.setdefault(key, value)


def check_targets(schema: Schema, table: Table) -> None:
    """Refuse targets of ``schema`` that nothing can be learnt from: cells of ``table`` all empty, all equal or all
    different.
    """
    for column in schema.targets:
        cells = [cell for cell in table.column(column.source) if not column.reader.missing(cell)]
        if not cells:
            raise DataError("the target is empty in every row", file=table.source, column=column.name)
        if column.reader.stream is None:
            continue  # for files, text and the like, equal cells do not mean equal targets
        category = column.reader.single
        values = classes(cells, column.spec)[0] if category else {str(cell).strip() for cell in cells}
        if len(values) < 2:
            raise DataError(
                f"the target is {cells[0]!r} in every row: there is nothing to learn",
                file=table.source,
                column=column.name,
                fix="give rows with at least two different values",
            )
        if category and len(values) == len(cells) > FEW:
            raise DataError(
                f"all {len(cells)} values are different classes: there is nothing to learn",
                file=table.source,
                column=column.name,
                fix=f"name another target, or set its kind: {quoting.as_kind(column.name, 'number')}",
            )


def _document(spec: Spec) -> dict[str, Any]:
    if isinstance(spec, str):
        return {"kind": spec}
    if "kind" in spec:
        split(spec)
    return dict(spec)

"""Cutting of a long table into windows, split over time, before training."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from sensorium.core.errors import ConfigError
from sensorium.core.goal import task_spec
from sensorium.core.recipe import Recipe
from sensorium.core.registry import find
from sensorium.data.regular_grid import FUTURE_KNOWN
from sensorium.data.tables.table import Table
from sensorium.data.window_tables import training_windows
from sensorium.reporting.console import Console
from sensorium.training.training_request import Request

SAMPLE = 200
"""Number of rows examined to find a clock column, if none is named."""


def cut(request: Request, console: Console) -> Request:
    """Return ``request`` with the windows of its long table, training and later held-out ones, in place of the table.

    Without ``data.windows`` in its recipe it is returned as it is. Notes are written to ``console``.

    Raises:
        ConfigError: The table is a stream, or no task of the recipe learns from windows.
        DataError: The table cannot be cut.
    """
    plan, windows = request.plan, request.plan.data.windows
    if windows is None:
        return request
    if plan.data.stream:
        raise ConfigError("windows are cut from a table in memory", fix="leave out --stream, or data.windows")
    table, valid = (
        None if source is None else Table.read(source, root=request.media) for source in (request.source, request.valid)
    )
    assert table is not None
    for note in [*table.notes, *(valid.notes if valid is not None else ())]:
        console.warn(note)
    if windows.time is None and (clocks := _clocks(table)):
        console.warn(
            f"the rows are taken as one series in their order; {clocks[0]!r} looks like their clock: --time {clocks[0]}"
        )
    ignored = [name for name, role in request.roles.items() if role == "ignore"]
    ignored += [name for name, spec in plan.columns.items() if _is_ignored(spec)]
    windowed = training_windows(
        table,
        windows,
        valid=valid,
        part=plan.data.split.part,
        leave=ignored,
        kinds=[name for name in plan.columns if name not in ignored],
    )
    for line in windowed.notes:
        console.note(f"  {line}")
    chosen = windowed.windows
    known = [FUTURE_KNOWN] if windowed.training.has(FUTURE_KNOWN) else []
    consumed = {*chosen.target, *chosen.known, *(chosen.beside or ()), chosen.time, *ignored} - {chosen.column}
    declared = {name: spec for name, spec in plan.columns.items() if name not in consumed}
    for name, spec in windowed.columns.items():
        own = declared.get(name, {})
        declared[name] = {**spec, **({} if isinstance(own, str) else own)}
    source = str(request.source) if isinstance(request.source, (str, os.PathLike)) else plan.data.train
    data = plan.data.model_copy(update={"windows": chosen, "train": source})
    model = plan.model.model_copy(update={"tasks": _tasks(plan, chosen.column, windowed.season, known)})
    return replace(
        request,
        plan=plan.model_copy(update={"data": data, "columns": declared, "model": model}),
        source=windowed.training,
        valid=windowed.held_out,
        roles={name: role for name, role in request.roles.items() if role != "ignore"},
    )


def _clocks(table: Table) -> list[str]:
    """Return the columns of ``table`` that hold dates."""
    sniff = find("modalities", "datetime").sniff
    cells = {name: [cell for cell in table.column(name)[:SAMPLE] if cell not in (None, "")] for name in table.columns}
    return [name for name, values in cells.items() if values and sniff(values, name).score > 0.5]


def _is_ignored(spec: Any) -> bool:
    return spec == "ignore" or (isinstance(spec, dict) and spec.get("role") == "ignore")


def _tasks(plan: Recipe, column: str, season: int, known: list[str]) -> dict[str, Any]:
    """Return the tasks of ``plan`` with the options that follow from the windows."""
    tasks: dict[str, Any] = {}
    for name, spec in plan.model.tasks.items():
        own = task_spec(name, spec)
        more = find("tasks", str(own.spec.get("kind"))).on_windows(season, known)
        if more is None or own.targets != (column,):
            raise ConfigError(f"task {name!r} cannot learn from windows", fix="a forecast of the columns of data.windows")
        tasks[name] = {**more, **({"kind": spec} if isinstance(spec, str) else spec)}
    return tasks

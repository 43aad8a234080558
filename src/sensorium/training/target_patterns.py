"""Patterns of target columns (``nose_*``), for tasks that make one target of several columns."""

from __future__ import annotations

from collections.abc import Sequence

from sensorium.core import registry
from sensorium.core.goal import TaskSpec
from sensorium.data.inspection.column_groups import matches


def expanded(task: TaskSpec, names: Sequence[str]) -> TaskSpec:
    """Return ``task`` with the columns that its patterns match among ``names``; a pattern that matches none stays.

    Only a task that gathers columns (``Task.gathers``) has patterns.
    """
    if "kind" not in task.spec or registry.find("tasks", str(task.spec["kind"])).gathers is None:
        return task
    columns = [name for pattern in task.targets for name in matches(pattern, names) or [pattern]]
    return task._replace(targets=tuple(dict.fromkeys(columns)))

"""The goal of a task: its target columns, its prompt columns, and the streams of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch

from sensorium.core.batch import Batch, Field
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Layout
from sensorium.core.modality import Modality
from sensorium.core.pyramid_level import Level


class TaskSpec(NamedTuple):
    """A task as declared in a recipe.

    Args:
        name: The name of the task.
        spec: Kind and options.
        targets: Its target columns, in order; empty: it learns without a target.
        prompts: Its prompt columns.
        given: The only columns that it reads; empty: all.
    """

    name: str
    spec: dict[str, Any]
    targets: tuple[str, ...]
    prompts: tuple[str, ...]
    given: tuple[str, ...] = ()


def task_spec(name: str, spec: str | Mapping[str, Any]) -> TaskSpec:
    """The task ``name`` of a recipe from ``spec``: ``{kind, target: column | [columns] | null, prompt: column |
    [columns], given: column | [columns], option: ...}``; without ``target`` the name is that of its column."""
    options = {"kind": spec} if isinstance(spec, str) else dict(spec)
    targets = _columns(name, "target", options.pop("target", name))
    prompts, given = (_columns(name, key, options.pop(key, None)) for key in ("prompt", "given"))
    return TaskSpec(name, options, targets, prompts, given)


def _columns(name: str, key: str, value: Any) -> tuple[str, ...]:
    columns = (
        () if value is None else (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else None
    )
    if columns is None or not all(isinstance(column, str) for column in columns) or len(set(columns)) < len(columns):
        raise ConfigError(f"task {name!r}: {key} is {value!r}", fix=f"{key}: a column, [several columns] or null")
    return columns


@dataclass(frozen=True)
class Goal:
    """The goal of a task, determined by the data.

    Args:
        name: The name of the task.
        targets: The fitted modality of each target column, in order; empty: no target.
        prompts: The fitted modality of each prompt column.
        streams: The layout of each stream.
        levels: The levels of the feature pyramid of each stream's encoder, from fine to coarse.
        lies_on: The stream that a target column lies on (boxes on a picture, labels along a sound).
        bases: The fitted modality of that stream, by target column.
        inputs: The fitted modalities of the columns of each stream.
    """

    name: str
    targets: Mapping[str, Modality] = field(default_factory=dict)
    prompts: Mapping[str, Modality] = field(default_factory=dict)
    streams: Mapping[str, Layout] = field(default_factory=dict)
    levels: Mapping[str, tuple[Level, ...]] = field(default_factory=dict)
    lies_on: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, Modality] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, Modality]] = field(default_factory=dict)

    @classmethod
    def of(cls, modality: Modality, name: str = "target") -> Self:
        """The goal of the single target ``name`` of ``modality``."""
        return cls(name, {name: modality})

    @property
    def modality(self) -> Modality:
        """The modality of the only target."""
        if len(self.targets) != 1:
            raise ConfigError(f"task {self.name!r} has {len(self.targets)} targets where one is wanted")
        return next(iter(self.targets.values()))

    def target(self, batch: Batch) -> Field | None:
        """The task's target in ``batch``; None if the batch has no such columns.

        Several columns of table cells are concatenated, present where all of them are. Without a target every row with a
        weight is present, and the data is empty, ``[B, 0]``.
        """
        if not self.targets:
            return Field(batch.weight.new_zeros((batch.rows, 0)), batch.weight > 0)
        if any(name not in batch.targets for name in self.targets):
            return None
        fields = [batch.targets[name] for name in self.targets]
        if len(fields) == 1:
            return fields[0]
        if any(part.data.dim() != 2 for part in fields):
            raise ConfigError(f"task {self.name!r}: several columns make one target where each is one cell of a table")
        together = torch.stack([part.present for part in fields]).all(dim=0)
        return Field(torch.cat([part.data for part in fields], dim=1), together)

"""What a run is asked for, in one value: ``fit``, ``compare``, a search and a stream begin with the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sensorium.core import quoting, registry
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe, Spec
from sensorium.data.inspection.column_groups import Patterns

RecipeSource = Recipe | Mapping[str, Any] | str | Path | None
"""A recipe as ``fit`` takes it."""
Target = str | Sequence[str] | Mapping[str, str] | None


@dataclass(frozen=True)
class Request:
    """What the user said, before any table was read.

    Args:
        source: The training table; None: the one that the recipe names.
        valid: A validation table.
        targets: Columns to predict.
        roles: By column, what it is for, where the user said so: ``ignore``, ``group``, ``weight``.
        media: The folder that media paths are relative to.
        cache: Where decoded media are kept.
        plan: The recipe with everything that was said beside it.
    """

    plan: Recipe
    source: Any
    valid: Any = None
    targets: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    media: str | Path | None = None
    cache: str | Path | None = None

    @classmethod
    def of(
        cls,
        source: Any,
        *,
        target: Target = None,
        task: str | None = None,
        options: Mapping[str, Any] | None = None,
        valid: Any = None,
        recipe: RecipeSource = None,
        columns: Mapping[str, str] | None = None,
        streams: Patterns | None = None,
        ignore: Iterable[str] = (),
        group: str | None = None,
        weight: str | None = None,
        media: str | Path | None = None,
        overrides: Iterable[str] = (),
        seed: int | None = None,
        time_limit: float | None = None,
        stream: bool = False,
        cache: str | Path | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        fusion: Spec | None = None,
        size: str | None = None,
    ) -> Self:
        """From the arguments of ``fit``; see there. Raises ``ConfigError`` where there is no training table."""
        said = {
            "seed": seed,
            "training.time_limit": time_limit,
            "data.stream": True if stream else None,
            "training.epochs": epochs,
            "training.lr": lr,
            "training.batch_size": batch_size,
            "model.fusion": fusion,
            "model.size": size,
        }
        plan = _with(parse_recipe(recipe), said, list(overrides))
        if group is not None:
            chosen = plan.data.split.model_copy(update={"kind": "group", "by": group})
            plan = plan.model_copy(update={"data": plan.data.model_copy(update={"split": chosen})})
        if task is not None:
            plan = with_task(plan, task, target, options or {})
        elif options:
            raise ConfigError(f"{next(iter(options))} is an option of a task", fix="name the task as well")
        plan = plan.model_copy(update={"columns": {**plan.columns, **(columns or {})}})
        if streams:
            plan = plan.model_copy(update={"streams": {**plan.streams, **_patterns(streams)}})
        roles = dict.fromkeys(ignore, "ignore") | ({group: "group"} if group else {})
        source = source if source is not None else plan.data.train
        if source is None:
            raise ConfigError("there is no training table", fix="name one, here or under data.train of the recipe")
        return cls(
            plan,
            source,
            valid if valid is not None else plan.data.valid,
            () if task is not None else _columns(target),
            roles | ({weight: "weight"} if weight else {}),
            media or plan.data.media,
            cache,
        )

    def with_source(self, plan: Recipe) -> Recipe:
        """A recipe with the training table's name, where it has one."""
        if not isinstance(self.source, (str, os.PathLike)):
            return plan
        return plan.model_copy(update={"data": plan.data.model_copy(update={"train": str(self.source)})})


def parse_recipe(recipe: object) -> Recipe:
    """A recipe from a recipe, a mapping of its sections, a YAML file, or nothing."""
    if recipe is None or isinstance(recipe, Recipe):
        return recipe or Recipe()
    if isinstance(recipe, Mapping):
        return Recipe.parse(recipe, source="the recipe")
    if isinstance(recipe, (str, os.PathLike)):
        return Recipe.from_yaml(Path(recipe))
    fix = 'a YAML file, a Recipe, or its sections: {"training": {"epochs": 20}}'
    raise ConfigError(f"this is no recipe: it is of type {type(recipe).__name__}", fix=fix)


def _with(plan: Recipe, said: Mapping[str, Any], overrides: Sequence[str]) -> Recipe:
    """The recipe with what arguments say, and then the overrides, of which none may say the same again."""
    said = {key: value for key, value in said.items() if value is not None}
    for text in overrides:
        path = ".".join(quoting.path(text)[0])
        # An override of a whole section replaces what was said of a part of it.
        key = next((key for key in said if key == path or key.startswith(f"{path}.")), None)
        if key is not None:
            name = key.rpartition(".")[2]
            problem = f"{key} is said twice: {name}={_plain(said[key])}, and {text} among the overrides"
            raise ConfigError(problem, fix="leave out one of the two")
    return plan.override([*(f"{key}={_plain(value)}" for key, value in said.items()), *overrides])


def _plain(value: Any) -> str:
    """A value as JSON, which is YAML; numbers of numpy too."""
    try:
        return json.dumps(value, ensure_ascii=False, default=lambda other: other.item())
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(
            f"{value!r:.80} cannot stand in a recipe", fix="give a number, a text or a mapping of those"
        ) from None


def _patterns(streams: Patterns) -> dict[str, str | list[str]]:
    return {stream: given if isinstance(given, str) else list(given) for stream, given in streams.items()}


def _columns(target: Target) -> tuple[str, ...]:
    if isinstance(target, Mapping):
        raise ConfigError("target names the parts of one target", fix="name the task as well: task=...")
    return (target,) if isinstance(target, str) else tuple(target or ())


def with_task(plan: Recipe, task: str, target: Target, options: Mapping[str, Any]) -> Recipe:
    """The recipe with a task of this kind. ``target`` may name the parts of one: ``{"time": "days", "event": "died"}``."""
    parts: tuple[str, ...] = registry.find("tasks", task).parts
    if isinstance(target, Mapping):
        if set(target) != set(parts):
            wanted = ", ".join(parts) or "one column"
            raise ConfigError(f"task {task}: its target is {wanted}, not {', '.join(target)}")
        columns = tuple(target[part] for part in parts)
    else:
        columns = _columns(target)
    each = [columns] if parts or not columns else [(column,) for column in columns]
    tasks = dict(plan.model.tasks)
    for one in each:
        name = one[0] if len(one) == 1 else task
        named: Any = None if not one else one[0] if len(one) == 1 else list(one)
        tasks[name] = {"kind": task, "target": named, **options}
    return plan.model_copy(update={"model": plan.model.model_copy(update={"tasks": tasks})})

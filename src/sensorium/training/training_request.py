"""The user's request for a training, in one value that ``fit``, ``compare``, searches and streams start from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, get_args

from sensorium.core import quoting, registry
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.goal import task_spec
from sensorium.core.recipe import Init, Recipe, Spec, Windows
from sensorium.data.inspection.column_groups import Patterns

RecipeSource = Recipe | Mapping[str, Any] | str | Path | None
"""A recipe in any form that ``fit`` accepts."""
Target = str | Sequence[str] | Mapping[str, str] | None
WINDOW = "horizon"
"""The option with which a task asks for windows of a long table, among ``WINDOWS``."""
WINDOWS: tuple[str, ...] = tuple(name for name in Windows.model_fields if name not in ("target", "ended"))
"""The settings of ``data.windows`` that may be given as options of the task."""

INIT_HOW: tuple[str, ...] = get_args(Init.model_fields["how"].annotation)
"""How a run may start from a base."""


@dataclass(frozen=True)
class Request:
    """The arguments of the user, before any table is read.

    Args:
        plan: The recipe with all arguments that are settings of it.
        source: The training table.
        valid: A validation table, or None.
        targets: Columns to predict.
        roles: By column, its role where the user gave one: ``ignore``, ``group``, ``weight``.
        media: The folder that media paths are relative to.
        cache: The folder of the cache of decoded media.
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
        init: str | Path | None = None,
        init_how: str | None = None,
        init_streams: Mapping[str, str] | None = None,
    ) -> Self:
        """Build the request from the arguments of ``fit``, which documents them.

        Arguments that are settings of the recipe (``seed``, ``time_limit``, ``stream``, ``epochs``, ``lr``, ``batch_size``,
        ``fusion``, ``size``, ``streams``, ``columns``, ``group``, ``init`` with ``init_how`` and ``init_streams``) and
        ``overrides`` are written into ``recipe``; a ``task`` with its ``options`` and ``target`` too. ``source`` and
        ``valid`` are tables; ``ignore`` and ``weight`` name columns; ``media`` and ``cache`` are folders.

        Raises:
            ConfigError: There is no training table, or two arguments set the same key of the recipe.
        """
        settings = {
            "seed": seed,
            "training.time_limit": time_limit,
            "data.stream": True if stream else None,
            "training.epochs": epochs,
            "training.lr": lr,
            "training.batch_size": batch_size,
            "model.fusion": fusion,
            "model.size": size,
        }
        if init_how is not None and init_how not in INIT_HOW:
            problem = f"init_how is {init_how!r}{nearest(init_how, INIT_HOW)}"
            raise ConfigError(problem, fix="--init-how full (learn on), slow (at a tenth of the rate) or frozen")
        if init is not None:
            settings |= {"init.base": str(init), "init.how": init_how, "init.streams": dict(init_streams or {}) or None}
        plan = _with(parse_recipe(recipe), settings, list(overrides))
        if init is None and (init_how or init_streams):
            raise ConfigError("no model to start from is named", fix="name one: init (--init FOLDER)")
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

    def for_table(self, target: str | None, annotations: Sequence[str] = ()) -> Self:
        """Return the request with the target that a table itself names, for tasks that need one and have none.

        Args:
            target: The target.
            annotations: Columns named for their kind; that of a task's own kind is taken instead of ``target``.
        """
        named: dict[str, Any] = {}
        for name, spec in self.plan.model.tasks.items():
            task = task_spec(name, spec)
            kind = registry.find("tasks", str(task.spec["kind"])) if "kind" in task.spec else None
            if target is None or kind is None or task.targets or not kind.predicts or kind.parts:
                named[name] = spec
            else:
                own = next((column for column in annotations if column in kind.predicts), target)
                named[own] = {**dict(spec), "target": own}  # type: ignore[arg-type]  # a text names its column
        model = self.plan.model.model_copy(update={"tasks": named})
        return replace(self, plan=self.plan.model_copy(update={"model": model}))

    def with_source(self, plan: Recipe) -> Recipe:
        """Return the recipe ``plan`` with the path of the training table, if it has one."""
        if not isinstance(self.source, (str, os.PathLike)):
            return plan
        return plan.model_copy(update={"data": plan.data.model_copy(update={"train": str(self.source)})})


def parse_recipe(recipe: object) -> Recipe:
    """Return a recipe from ``recipe``: a ``Recipe``, a mapping of its sections, a YAML file, or None for the default."""
    if recipe is None or isinstance(recipe, Recipe):
        return recipe or Recipe()
    if isinstance(recipe, Mapping):
        return Recipe.parse(recipe, source="the recipe")
    if isinstance(recipe, (str, os.PathLike)):
        return Recipe.from_yaml(Path(recipe))
    fix = 'a YAML file, a Recipe, or its sections: {"training": {"epochs": 20}}'
    raise ConfigError(f"not a recipe: a value of type {type(recipe).__name__}", fix=fix)


def _with(plan: Recipe, settings: Mapping[str, Any], overrides: Sequence[str]) -> Recipe:
    """Return the recipe with arguments and overrides applied, which must not set the same key."""
    settings = {key: value for key, value in settings.items() if value is not None}
    for text in overrides:
        path = ".".join(quoting.path(text)[0])
        # An override of a section would replace the setting within it.
        key = next((key for key in settings if key == path or key.startswith(f"{path}.")), None)
        if key is not None:
            name = key.rpartition(".")[2]
            problem = f"{key} is set twice: {name}={_plain(settings[key])}, and {text} among the overrides"
            raise ConfigError(problem, fix="leave out one of the two")
    return plan.override([*(f"{key}={_plain(value)}" for key, value in settings.items()), *overrides])


def _plain(value: Any) -> str:
    """Return a value as JSON, which is also YAML; NumPy numbers are accepted."""
    try:
        return json.dumps(value, ensure_ascii=False, default=lambda other: other.item())
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(
            f"{value!r:.80} is not a valid value in a recipe", fix="give a number, a text or a mapping of those"
        ) from None


def _patterns(streams: Patterns) -> dict[str, str | list[str]]:
    return {name: pattern if isinstance(pattern, str) else list(pattern) for name, pattern in streams.items()}


def _columns(target: Target) -> tuple[str, ...]:
    if isinstance(target, Mapping):
        raise ConfigError("target names the parts of one target", fix="name the task as well: task=...")
    return (target,) if isinstance(target, str) else tuple(target or ())


def with_task(plan: Recipe, task: str, target: Target, options: Mapping[str, Any]) -> Recipe:
    """Return the recipe ``plan`` with a task of kind ``task`` and its ``options``, which go before those of the recipe.

    ``target`` may name the parts of a target of several columns: ``{"time": "days", "event": "died"}``; for a task that
    gathers columns (``Task.gathers``) a list of columns and patterns is one target. ``options`` may name prompt columns by
    what the task calls them (``Task.prompted``).
    """
    task_class = registry.find("tasks", task)
    parts: tuple[str, ...] = task_class.parts
    prompts = [options[name] for name in task_class.prompted if options.get(name) is not None]
    options = {name: value for name, value in options.items() if name not in task_class.prompted}
    if task_class.on_windows(1, ()) is not None:
        if WINDOW in options:
            plan, target, options = _with_windows(plan, task, target, options)
        elif alone := [
            name for name in WINDOWS if name in options and name not in registry.options("tasks", task).model_fields
        ]:
            raise ConfigError(
                f"task {task}: {', '.join(alone)} is for windows of a long table, whose horizon is not given",
                fix=f"--{WINDOW} STEPS",
            )
    if prompts:
        options["prompt"] = prompts
    if isinstance(target, Mapping):
        if set(target) != set(parts):
            expected = ", ".join(parts) or "one column"
            fix = " ".join(f"--{part} COLUMN" for part in parts) or "--target COLUMN"
            raise ConfigError(f"task {task}: its target is {expected}, and {', '.join(target)} is named", fix=fix)
        columns = tuple(target[part] for part in parts)
    else:
        columns = _columns(target)
    together = parts or not columns or task_class.gathers is not None
    targets = [columns] if together else [(column,) for column in columns]
    tasks = dict(plan.model.tasks)
    for names in targets:
        name = names[0] if len(names) == 1 else task
        named: Any = None if not names else names[0] if len(names) == 1 else list(names)
        earlier = tasks.get(name)
        # What the recipe or an override sets in a task of this kind counts; another kind takes its place.
        kept = dict(earlier) if isinstance(earlier, Mapping) and earlier.get("kind", task) == task else {}
        tasks[name] = {**kept, "kind": task, "target": named, **options}
    return plan.model_copy(update={"model": plan.model.model_copy(update={"tasks": tasks})})


def _with_windows(
    plan: Recipe, task: str, target: Target, options: Mapping[str, Any]
) -> tuple[Recipe, Target, dict[str, Any]]:
    """Move the settings of windows from the ``options`` of ``task`` to the recipe; ``target`` becomes that of a window."""
    columns = _columns(target)
    if not columns:
        raise ConfigError(f"task {task}: the columns to forecast are not named", fix="--target COLUMN, or target=")
    chosen: dict[str, Any] = {"target": list(columns)}
    for name in WINDOWS:
        value = options.get(name)
        if value is not None:
            several = name in ("known", "beside", "calendar") and isinstance(value, str)
            chosen[name] = [value] if several else value
    data = plan.model_dump(exclude_unset=True)
    data["data"] = {**data.get("data", {}), "windows": chosen}
    plan = Recipe.parse(data, source=f"task {task}")
    assert plan.data.windows is not None
    return plan, plan.data.windows.column, {name: value for name, value in options.items() if name not in WINDOWS}

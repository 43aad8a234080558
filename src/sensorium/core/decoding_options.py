"""Options of how a trained model makes answers of its outputs, changed without training it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.goal import task_spec
from sensorium.core.recipe import Recipe
from sensorium.core.registry import find, resolve

Decoding = Mapping[str, Any] | None
"""Options by name: ``{"beam": 5}``."""


def with_decoding(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    """Return the resolved ``recipe`` with ``options`` in every task that has them among its ``decoding`` options.

    Raises:
        ConfigError: No task has such an option, or a value is of the wrong type.
    """
    tasks: dict[str, Any] = dict(recipe.model.tasks)
    known: set[str] = set()
    for name, spec in recipe.model.tasks.items():
        full = task_spec(name, spec).spec
        own = find("tasks", full["kind"]).decoding
        known.update(own)
        if chosen := {option: value for option, value in options.items() if option in own}:
            checked = resolve("tasks", {"kind": full["kind"], **chosen})
            written = {"kind": spec} if isinstance(spec, str) else spec
            tasks[name] = written | {option: checked[option] for option in chosen}
    for option in options:
        if option not in known:
            those = ", ".join(sorted(known)) or "none"
            raise ConfigError(
                f"{option!r} is no decoding option of this model{nearest(option, known)}", fix=f"decoding options: {those}"
            )
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"tasks": tasks})})

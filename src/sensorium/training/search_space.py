"""The search space of a recipe: the settings it leaves open, and the resolved recipe for values of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.core.recipe import Recipe, Spec
from sensorium.core.schema import Schema
from sensorium.model import assemble
from sensorium.training.augmentation_strength import augmented, strengths
from sensorium.training.defaults import resolve
from sensorium.training.surgery_scope import frozen_streams

FUSIONS = ("lowrank", "gated", "weighted", "concat", "bottleneck", "late")
"""Fusions that are tried: one of each family that trains in about the time of the default."""
SIZES = ("tiny", "small", "base", "large")
STRENGTHS = ("none", "light", "strong")
AS_IS = "as usual"
"""Each column augmented with the default of its kind, where kinds differ in it."""
MOST_DROPPED = 0.8
"""Maximum dropout rate."""

Setting = dict[str, Any]
"""The value of each search parameter."""


@dataclass(frozen=True)
class SearchParameter:
    """One dimension of the search space: one of ``choices``, or a number between ``low`` and ``high``.

    Args:
        name: The name of the setting.
        usual: The value without a search.
        choices: The allowed values, for a categorical parameter.
        low: The minimum, for a number; ``high`` is the maximum.
        log: Whether the scale is logarithmic.
    """

    name: str
    usual: Any
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def __str__(self) -> str:
        return f"{self.name} {', '.join(self.choices) if self.choices else f'{self.low:g} to {self.high:g}'}"


@dataclass(frozen=True)
class SearchSpace:
    """The open settings of a recipe over fitted columns. What the recipe sets is kept.

    Args:
        plan: The recipe with settings left open.
        schema: The fitted columns.
        rows: Number of training rows.
        classes: Training rows of each class, by target.
        parameters: The open settings.
    """

    plan: Recipe
    schema: Schema
    rows: int
    classes: Mapping[str, Sequence[int]]
    parameters: tuple[SearchParameter, ...]

    @property
    def usual(self) -> Setting:
        """The setting of the recipe as it would be resolved without a search."""
        return {parameter.name: parameter.usual for parameter in self.parameters}

    def at(self, setting: Setting) -> tuple[Recipe, Schema]:
        """Return the resolved recipe for ``setting``, and the columns with its augmentation."""
        schema, plan = self.schema, self.plan
        if setting.get("augment", AS_IS) not in (AS_IS, self.usual.get("augment", AS_IS)):
            schema = augmented(schema, dict.fromkeys(_augmented_columns(plan, schema), str(setting["augment"])))
        # The default fusion may come with its own options: it is left to ``resolve``, as without a search.
        model: dict[str, Any] = {
            key: setting[key] for key in ("fusion", "size") if key in setting and setting[key] != self.usual.get(key)
        }
        training: dict[str, Any] = {key: float(f"{setting[key]:.3g}") for key in ("lr", "weight_decay") if key in setting}
        plan = plan.model_copy(
            update={
                "model": plan.model.model_copy(update=model),
                "training": plan.training.model_copy(update=training),
            }
        )
        resolved, _ = resolve(plan, schema, self.rows, self.classes)
        times = float(setting.get("dropout", 1.0))
        return (resolved if times == 1.0 else _with_dropout_scale(self.plan, resolved, times)), schema


def search_space(plan: Recipe, schema: Schema, rows: int, classes: Mapping[str, Sequence[int]]) -> SearchSpace:
    """Return the search space of a recipe.

    Args:
        plan: The recipe with settings left open.
        schema: The fitted columns.
        rows: Number of training rows.
        classes: Training rows of each class, by target.

    Raises:
        ConfigError: The recipe leaves nothing open.
    """
    usual, _ = resolve(plan, schema, rows, classes)
    set_by_user = plan.training.model_fields_set
    parameters: list[SearchParameter] = []
    fusions = _fusions(plan, usual, schema) if plan.model.fusion is None and len(schema.streams) > 1 else ()
    if len(fusions) > 1:
        parameters.append(SearchParameter("fusion", registry.split(usual.model.fusion or "")[0], fusions))
    if plan.model.size == "auto":
        at = SIZES.index(usual.model.size)
        parameters.append(SearchParameter("size", usual.model.size, SIZES[max(0, at - 1) : at + 2]))
    if plan.training.lr is None:
        rate = usual.training.lr or 1e-3
        parameters.append(SearchParameter("lr", rate, low=rate / 5, high=rate * 4, log=True))
    if "weight_decay" not in set_by_user:
        parameters.append(SearchParameter("weight_decay", usual.training.weight_decay, low=1e-3, high=0.5, log=True))
    if _with_dropout_scale(plan, usual, 0.5) != usual:
        # One factor for all dropout rates: the components set their relation to each other.
        parameters.append(SearchParameter("dropout", 1.0, low=0.0, high=2.0))
    if plan.training.augment and _augmented_columns(plan, schema):
        default = {schema.columns[name].spec["augment"] for name in _augmented_columns(plan, schema)}
        uniform = len(default) == 1
        parameters.append(
            SearchParameter("augment", default.pop() if uniform else AS_IS, STRENGTHS if uniform else (AS_IS, *STRENGTHS))
        )
    if not parameters:
        raise ConfigError(
            "the recipe leaves nothing open to search", fix="leave out model.size, model.fusion or training.lr"
        )
    return SearchSpace(plan, schema, rows, classes, tuple(parameters))


def _fusions(plan: Recipe, usual: Recipe, schema: Schema) -> tuple[str, ...]:
    """Return the default fusion and those of the list that can fuse these streams."""
    default = registry.split(usual.model.fusion or "")[0]
    names = []
    for name in dict.fromkeys((default, *FUSIONS)):
        try:
            model = usual.model.model_copy(update={"fusion": name})
            assemble(resolve(usual.model_copy(update={"model": model}), schema, 1)[0].model, schema)
        except (SensoriumError, ImportError, ValueError, RuntimeError):
            continue  # too many streams, or a product too large: not among the choices
        names.append(name)
    return tuple(names)


def _augmented_columns(plan: Recipe, schema: Schema) -> list[str]:
    """Return the columns whose augmentation is left open, and whose encoders run in every epoch."""
    frozen = set(frozen_streams(plan.model.surgery, schema.streams))
    names = []
    for column in schema.inputs:
        spec = plan.columns.get(column.name, {})
        set_by_user = set() if isinstance(spec, str) else set(spec)
        if set(STRENGTHS) <= set(strengths(column)) and "augment" not in set_by_user and column.name not in frozen:
            names.append(column.name)
    return names


def _with_dropout_scale(request: Recipe, resolved: Recipe, times: float) -> Recipe:
    """Return the recipe with every dropout rate that the user did not set multiplied by ``times``."""

    def scaled(spec: Spec, requested: Spec | None) -> Spec:
        kind, options = registry.split(spec)
        if "dropout" not in options or (requested is not None and "dropout" in registry.split(requested)[1]):
            return spec
        share = float(f"{min(MOST_DROPPED, options['dropout'] * times):.3g}")
        return {"kind": kind, **options, "dropout": share}

    model = resolved.model
    update: dict[str, Any] = {
        family: {
            name: scaled(spec, getattr(request.model, family).get(name)) for name, spec in getattr(model, family).items()
        }
        for family in ("encoders", "adapters", "tasks")
    }
    update["fusion"] = None if model.fusion is None else scaled(model.fusion, request.model.fusion)
    return resolved.model_copy(update={"model": model.model_copy(update=update)})

"""What a search may turn: the parameters that a recipe leaves open, and the recipe that a setting of them makes."""

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
"""Fusions that are tried: of each family one that trains in about the time of the default."""
SIZES = ("tiny", "small", "base", "large")
STRENGTHS = ("none", "light", "strong")
AS_IS = "as usual"
"""Each column augmented as its kind is by default, where kinds differ in that."""
MOST_DROPPED = 0.8
"""A share of dropped features beyond which nothing is left to learn from."""

Setting = dict[str, Any]
"""The value of each parameter."""


@dataclass(frozen=True)
class SearchParameter:
    """One thing that varies: one of ``choices``, or a number between ``low`` and ``high``.

    Args:
        usual: What it is where nothing is searched.
        log: Whether steps count by ratio rather than by difference.
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
    """The open parameters of a recipe over fitted columns. What the recipe says is kept; a setting gives a resolved recipe."""

    plan: Recipe
    schema: Schema
    rows: int
    classes: Mapping[str, Sequence[int]]
    parameters: tuple[SearchParameter, ...]

    @property
    def usual(self) -> Setting:
        """The setting that is the recipe as it would be resolved without a search."""
        return {parameter.name: parameter.usual for parameter in self.parameters}

    def at(self, setting: Setting) -> tuple[Recipe, Schema]:
        """The resolved recipe of a setting, and the columns with it."""
        schema, plan = self.schema, self.plan
        if setting.get("augment", AS_IS) not in (AS_IS, self.usual.get("augment", AS_IS)):
            schema = augmented(schema, dict.fromkeys(_augmented_columns(plan, schema), str(setting["augment"])))
        # The usual fusion may come with options of its own: it is left to be chosen as without a search.
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
    """What may be searched for a declared recipe and fitted columns. Raises ``ConfigError`` where nothing is left open."""
    usual, _ = resolve(plan, schema, rows, classes)
    told = plan.training.model_fields_set
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
    if "weight_decay" not in told:
        parameters.append(SearchParameter("weight_decay", usual.training.weight_decay, low=1e-3, high=0.5, log=True))
    if _with_dropout_scale(plan, usual, 0.5) != usual:
        # All dropouts at once, by a factor: what they are relative to each other is the parts' own affair.
        parameters.append(SearchParameter("dropout", 1.0, low=0.0, high=2.0))
    if plan.training.augment and _augmented_columns(plan, schema):
        default = {schema.columns[name].spec["augment"] for name in _augmented_columns(plan, schema)}
        one = len(default) == 1
        parameters.append(
            SearchParameter("augment", default.pop() if one else AS_IS, STRENGTHS if one else (AS_IS, *STRENGTHS))
        )
    if not parameters:
        raise ConfigError(
            "the recipe leaves nothing open to search", fix="leave out model.size, model.fusion or training.lr"
        )
    return SearchSpace(plan, schema, rows, classes, tuple(parameters))


def _fusions(plan: Recipe, usual: Recipe, schema: Schema) -> tuple[str, ...]:
    """The default fusion and those of the list that these streams can be fused with."""
    default = registry.split(usual.model.fusion or "")[0]
    found = []
    for name in dict.fromkeys((default, *FUSIONS)):
        try:
            model = usual.model.model_copy(update={"fusion": name})
            assemble(resolve(usual.model_copy(update={"model": model}), schema, 1)[0].model, schema)
        except (SensoriumError, ImportError, ValueError, RuntimeError):
            continue  # too many streams, or a product too large: not among the choices
        found.append(name)
    return tuple(found)


def _augmented_columns(plan: Recipe, schema: Schema) -> list[str]:
    """Columns that may be augmented, of which nothing else was said, and whose encoders run in every epoch."""
    still = set(frozen_streams(plan.model.surgery, schema.streams))
    found = []
    for column in schema.inputs:
        spec = plan.columns.get(column.name, {})
        told = set() if isinstance(spec, str) else set(spec)
        if set(STRENGTHS) <= set(strengths(column)) and "augment" not in told and column.name not in still:
            found.append(column.name)
    return found


def _with_dropout_scale(told: Recipe, resolved: Recipe, times: float) -> Recipe:
    """The recipe with every dropout that was not given multiplied."""

    def scaled(spec: Spec, given: Spec | None) -> Spec:
        kind, options = registry.split(spec)
        if "dropout" not in options or (given is not None and "dropout" in registry.split(given)[1]):
            return spec
        share = float(f"{min(MOST_DROPPED, options['dropout'] * times):.3g}")
        return {"kind": kind, **options, "dropout": share}

    model = resolved.model
    update: dict[str, Any] = {
        family: {name: scaled(spec, getattr(told.model, family).get(name)) for name, spec in getattr(model, family).items()}
        for family in ("encoders", "adapters", "tasks")
    }
    update["fusion"] = None if model.fusion is None else scaled(model.fusion, told.model.fusion)
    return resolved.model_copy(update={"model": model.model_copy(update=update)})

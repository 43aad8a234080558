"""What the runs of a comparison share: one split, one decoding, one resolved recipe; and what it is with a part changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensorium.core import registry
from sensorium.core.contracts import Task
from sensorium.core.errors import ConfigError
from sensorium.core.goal import task_spec
from sensorium.core.recipe import ModelSpec, Recipe, Spec
from sensorium.core.schema import Column, Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.store.store import Store
from sensorium.evaluation.comparison import Way
from sensorium.model import goal_of
from sensorium.reporting.console import Console
from sensorium.training import prepare as steps
from sensorium.training.augmentation_strength import augmented
from sensorium.training.defaults import resolve, surgery_for
from sensorium.training.table_splits import TableSplits, TestSource
from sensorium.training.training_request import Request

TEST_PART = 0.2
"""The share of the table that is set apart where no test table is given."""


@dataclass(frozen=True)
class ComparisonSetup:
    """What all runs share: resolved recipe, fitted columns, encoded rows.

    Args:
        asked: The recipe as it was asked for, with all that it leaves open.
    """

    request: Recipe
    plan: Recipe
    schema: Schema
    rows: encoded.Rows
    valid: encoded.Rows
    test: encoded.Rows
    store: Store

    @property
    def task_name(self) -> str:
        """The one task that runs are compared by."""
        return next(iter(self.plan.model.tasks))

    def with_streams(self, streams: Sequence[str]) -> ComparisonSetup:
        """The same with only these streams: the other columns are there and not read."""
        if set(streams) == set(self.schema.streams):
            return self
        lost = {c.name for stream, columns in self.schema.streams.items() if stream not in streams for c in columns}
        columns = [
            Column(c.name, "ignore", {"kind": c.spec["kind"]}) if c.name in lost else c
            for c in self.schema.columns.values()
        ]
        rows, valid, test = (
            replace(part, inputs={name: source for name, source in part.inputs.items() if name in streams})
            for part in (self.rows, self.valid, self.test)
        )
        model = self.plan.model
        kept = {
            family: {name: spec for name, spec in getattr(model, family).items() if name in streams}
            for family in ("encoders", "adapters")
        }
        schema = Schema(columns)
        cut = model.model_copy(update={**kept, "surgery": surgery_for(model.surgery, streams)})
        rates = {key: getattr(self.plan.training, key) for key in ("lr_scale", "layer_decay")}
        training = self.plan.training.model_copy(
            update={key: {s: share for s, share in told.items() if s in streams} for key, told in rates.items()}
        )
        plan = self.plan.model_copy(update={"model": cut, "columns": schema.specs(), "training": training})
        return replace(self, plan=plan, schema=schema, rows=rows, valid=valid, test=test)

    def task(self) -> Task[Any]:
        """The target's task, untrained: it measures."""
        told = task_spec(self.task_name, self.plan.model.tasks[self.task_name])
        goal = goal_of(told, self.schema, {stream: self.schema.layout(stream) for stream in self.schema.streams})
        part: Task[Any] = registry.build("tasks", told.spec, goal, self.plan.model.dim)
        return part

    def with_time_limit(
        self, seconds: float, ways: Mapping[Way, ComparisonSetup]
    ) -> tuple[ComparisonSetup, dict[Way, ComparisonSetup]]:
        """The setup and all ways with so many seconds for a run."""

        def within(setup: ComparisonSetup) -> ComparisonSetup:
            training = setup.plan.training.model_copy(update={"time_limit": round(seconds, 3)})
            return replace(setup, plan=setup.plan.model_copy(update={"training": training}))

        return within(self), {way: within(setup) for way, setup in ways.items()}

    def with_fusion(self, fusion: str) -> ComparisonSetup:
        """The same with another fusion, sized like the rest of the model, and all else as it is."""
        told = self.plan.model.fusion
        spec = told if told is not None and registry.split(told)[0] == fusion else fusion
        return self._resolved(self.plan.model.model_copy(update={"fusion": spec}))

    def with_encoder(self, stream: str, encoder: Spec) -> ComparisonSetup:
        """The same with another encoder of a stream, sized like the rest, with the adapter and the rates usual for it."""
        request, model = self.request, self.plan.model
        told = request.model.encoders.get(stream)
        spec = told if told is not None and registry.split(told)[0] == encoder else encoder
        adapters = _entries_without(model.adapters, request.model.adapters, stream)
        rates = {
            key: _entries_without(getattr(self.plan.training, key), getattr(request.training, key), stream)
            for key in ("lr_scale", "layer_decay")
        }
        changed = model.model_copy(update={"encoders": {**model.encoders, stream: spec}, "adapters": adapters})
        return self._resolved(changed, rates)

    def with_augmentation(self, column: str, strength: str) -> ComparisonSetup:
        """The same with another augmentation of a column: what it learnt and its encoded cells stay as they are."""
        schema = augmented(self.schema, {column: strength})
        return replace(self, plan=self.plan.model_copy(update={"columns": schema.specs()}), schema=schema)

    def with_experts(self, experts: Sequence[Spec]) -> ComparisonSetup:
        """The same with these experts beside the network."""
        update = {"experts": list(experts), "features": self.request.model.features}
        return self._resolved(self.plan.model.model_copy(update=update))

    def _resolved(self, model: ModelSpec, rates: Mapping[str, Mapping[str, float]] | None = None) -> ComparisonSetup:
        training = self.plan.training.model_copy(update=rates)
        plan, _ = resolve(self.plan.model_copy(update={"model": model, "training": training}), self.schema, len(self.rows))
        return replace(self, plan=plan)

    def identity(self, metric: str | None, *, fusions: bool = True) -> str:
        """What two runs must share to stand in one table: all but the fusion, where ``fusions`` are compared."""
        plan = self.plan
        if fusions:
            plan = plan.model_copy(update={"model": plan.model.model_copy(update={"fusion": None})})
        told = [plan.model_dump(exclude={"data"}), self.schema.to_json(), metric]
        if self.request.model.features is not None:
            told.append(self.request.model.features)
        h = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for part in (self.rows, self.valid, self.test):
            h.update(json.dumps(part.contents()).encode())
        return h.hexdigest()[:16]


def _entries_without(resolved: Mapping[str, Any], asked: Mapping[str, Any], stream: str) -> dict[str, Any]:
    """The resolved entries, of one stream only what was asked for."""
    kept = {name: value for name, value in resolved.items() if name != stream}
    return kept | ({stream: asked[stream]} if stream in asked else {})


def prepare(
    request: Request, test: Any, console: Console, check: Callable[[Schema, Recipe], Any] | None = None
) -> tuple[ComparisonSetup, str]:
    """Declared, split, learnt, resolved and encoded, once for all runs; and what the test rows are, in words.

    ``check`` refuses what cannot be done with these columns and this recipe, before anything is decoded.
    """

    def comparable(found: TableSplits, trials: int | None, plan: Recipe) -> None:
        if len(found.schema.targets) > 1:
            raise ConfigError(f"{len(found.schema.targets)} targets cannot be compared at once", fix="name one: --target")
        if check is not None:
            check(found.schema, request.plan)

    ready = steps.prepare(request, console, test=TestSource(test, TEST_PART), check=comparable)
    tested = ready.splits.test
    assert tested is not None
    assert ready.test is not None
    unseen = f"{len(tested):,} rows of {tested.source} that no run has seen"
    where = unseen if test is None else f"the {len(tested):,} rows of {tested.source}"
    if len(ready.plan.model.tasks) != 1:
        raise ConfigError(f"{len(ready.plan.model.tasks)} targets cannot be compared at once", fix="name one: --target")
    # Networks are compared: what answers beside them would hide how they differ.
    single = ready.plan.model.model_copy(update={"experts": [], "features": {}, "networks": 1})
    plan = ready.plan.model_copy(update={"model": single})
    return ComparisonSetup(ready.request, plan, ready.schema, ready.rows, ready.valid, ready.test, ready.store), where

"""What the runs of a comparison share (split, decoded rows, resolved recipe), and variants of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import ConfigError
from sensorium.core.goal import task_spec
from sensorium.core.recipe import ModelSpec, Recipe, Spec
from sensorium.core.schema import Column, Schema
from sensorium.core.task import Task
from sensorium.data import encoded_rows as encoded
from sensorium.data.store.store import Store
from sensorium.evaluation.comparison import Variant
from sensorium.model import goal_of
from sensorium.reporting.console import Console
from sensorium.training import prepare as steps
from sensorium.training.augmentation_strength import augmented
from sensorium.training.defaults import resolve
from sensorium.training.surgery_scope import surgery_for
from sensorium.training.table_splits import TableSplits, TestSource
from sensorium.training.training_request import Request

TEST_PART = 0.2
"""Share of the table that is held out for testing where no test table is given."""


@dataclass(frozen=True)
class ComparisonSetup:
    """What all runs share: resolved recipe, fitted columns, encoded rows.

    Args:
        request: The recipe with its settings left open.
        plan: The resolved recipe.
        schema: The fitted columns.
        rows: Encoded training rows; ``valid`` and ``test`` are validation and test rows.
        store: The cache of decoded media.
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
        """Return the setup restricted to ``streams``; the other columns are ignored."""
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
            update={key: {s: share for s, share in by_stream.items() if s in streams} for key, by_stream in rates.items()}
        )
        plan = self.plan.model_copy(update={"model": cut, "columns": schema.specs(), "training": training})
        return replace(self, plan=plan, schema=schema, rows=rows, valid=valid, test=test)

    def task(self) -> Task[Any]:
        """Return the target's task, untrained, for scoring."""
        spec = task_spec(self.task_name, self.plan.model.tasks[self.task_name])
        goal = goal_of(spec, self.schema, {stream: self.schema.layout(stream) for stream in self.schema.streams})
        part: Task[Any] = registry.build("tasks", spec.spec, goal, self.plan.model.dim)
        return part

    def with_time_limit(
        self, seconds: float, ways: Mapping[Variant, ComparisonSetup]
    ) -> tuple[ComparisonSetup, dict[Variant, ComparisonSetup]]:
        """Return the setup and those of all ``ways`` with a time limit of ``seconds`` per run."""

        def within(setup: ComparisonSetup) -> ComparisonSetup:
            training = setup.plan.training.model_copy(update={"time_limit": round(seconds, 3)})
            return replace(setup, plan=setup.plan.model_copy(update={"training": training}))

        return within(self), {way: within(setup) for way, setup in ways.items()}

    def with_fusion(self, fusion: str) -> ComparisonSetup:
        """Return the setup with another ``fusion``, sized like the rest of the model."""
        own = self.plan.model.fusion
        spec = own if own is not None and registry.split(own)[0] == fusion else fusion
        return self._resolved(self.plan.model.model_copy(update={"fusion": spec}))

    def with_encoder(self, stream: str, encoder: Spec) -> ComparisonSetup:
        """Return the setup with another ``encoder`` of ``stream``, with the default adapter and learning rates for it."""
        request, model = self.request, self.plan.model
        own = request.model.encoders.get(stream)
        spec = own if own is not None and registry.split(own)[0] == encoder else encoder
        adapters = _entries_without(model.adapters, request.model.adapters, stream)
        rates = {
            key: _entries_without(getattr(self.plan.training, key), getattr(request.training, key), stream)
            for key in ("lr_scale", "layer_decay")
        }
        changed = model.model_copy(update={"encoders": {**model.encoders, stream: spec}, "adapters": adapters})
        return self._resolved(changed, rates)

    def with_augmentation(self, column: str, strength: str) -> ComparisonSetup:
        """Return the setup with another augmentation ``strength`` of ``column``; encoded cells stay valid."""
        schema = augmented(self.schema, {column: strength})
        return replace(self, plan=self.plan.model_copy(update={"columns": schema.specs()}), schema=schema)

    def with_experts(self, experts: Sequence[Spec]) -> ComparisonSetup:
        """Return the setup with these ``experts`` beside the network."""
        update = {"experts": list(experts), "features": self.request.model.features}
        return self._resolved(self.plan.model.model_copy(update=update))

    def _resolved(self, model: ModelSpec, rates: Mapping[str, Mapping[str, float]] | None = None) -> ComparisonSetup:
        training = self.plan.training.model_copy(update=rates)
        plan, _ = resolve(self.plan.model_copy(update={"model": model, "training": training}), self.schema, len(self.rows))
        return replace(self, plan=plan)

    def identity(self, metric: str | None, *, fusions: bool = True) -> str:
        """Return the hash that runs must share to be in one table: all but the fusion, where ``fusions`` are compared.

        ``metric`` is the one to compare.
        """
        plan = self.plan
        if fusions:
            plan = plan.model_copy(update={"model": plan.model.model_copy(update={"fusion": None})})
        document = [plan.model_dump(exclude={"data"}), self.schema.to_json(), metric]
        if self.request.model.features is not None:
            document.append(self.request.model.features)
        h = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
        for part in (self.rows, self.valid, self.test):
            h.update(json.dumps(part.contents()).encode())
        return h.hexdigest()[:16]


def _entries_without(resolved: Mapping[str, Any], requested: Mapping[str, Any], stream: str) -> dict[str, Any]:
    """Return the resolved entries; for ``stream``, only what the user asked for."""
    kept = {name: value for name, value in resolved.items() if name != stream}
    return kept | ({stream: requested[stream]} if stream in requested else {})


def prepare(
    request: Request, test: Any, console: Console, check: Callable[[Schema, Recipe], Any] | None = None
) -> tuple[ComparisonSetup, str]:
    """Prepare the data of all runs: declare, split, fit, resolve and encode.

    Args:
        request: The data and the recipe as the user gave them.
        test: The test table; None holds out ``TEST_PART`` of the rows.
        console: Where notes and progress are printed.
        check: Called with the columns and the recipe before anything is decoded; raises for what cannot be done.

    Returns:
        The setup, and what the test rows are, in words.
    """

    def comparable(splits: TableSplits, trials: int | None, plan: Recipe) -> None:
        if len(splits.schema.targets) > 1:
            raise ConfigError(f"{len(splits.schema.targets)} targets cannot be compared at once", fix="name one: --target")
        if check is not None:
            check(splits.schema, request.plan)

    ready = steps.prepare(request, console, test=TestSource(test, TEST_PART), check=comparable)
    tested = ready.splits.test
    assert tested is not None
    assert ready.test is not None
    unseen = f"{len(tested):,} rows of {tested.source} that no run has seen"
    where = unseen if test is None else f"the {len(tested):,} rows of {tested.source}"
    if len(ready.plan.model.tasks) != 1:
        raise ConfigError(f"{len(ready.plan.model.tasks)} targets cannot be compared at once", fix="name one: --target")
    # Networks are compared: experts beside them would hide their differences.
    single = ready.plan.model.model_copy(update={"experts": [], "features": {}, "networks": 1})
    plan = ready.plan.model_copy(update={"model": single})
    return ComparisonSetup(ready.request, plan, ready.schema, ready.rows, ready.valid, ready.test, ready.store), where

"""What the runs of a comparison share: one split, one decoding, one set of encoders; and the ways to try on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensorium.console import Console
from sensorium.core import registry
from sensorium.core.contracts import Task
from sensorium.core.errors import ConfigError, SensoriumError, nearest
from sensorium.core.goal import task_spec
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Column, Schema
from sensorium.data import rows as encoded
from sensorium.data.store import Store
from sensorium.evaluation.comparison import Way
from sensorium.model import assemble, goal_of
from sensorium.training import prepare as steps
from sensorium.training.defaults import resolve, surgery_of
from sensorium.training.parts import Parts, Test
from sensorium.training.request import Request

TEST_PART = 0.2
"""The share of the table that is set apart where no test table is given."""


@dataclass(frozen=True)
class Ground:
    """What all runs share: resolved recipe, fitted columns, encoded rows."""

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

    def narrowed(self, streams: Sequence[str]) -> Ground:
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
        cut = model.model_copy(update={**kept, "surgery": surgery_of(model.surgery, streams)})
        rates = {key: getattr(self.plan.training, key) for key in ("lr_scale", "layer_decay")}
        training = self.plan.training.model_copy(
            update={key: {s: share for s, share in told.items() if s in streams} for key, told in rates.items()}
        )
        plan = self.plan.model_copy(update={"model": cut, "columns": schema.specs(), "training": training})
        return Ground(plan, schema, rows, valid, test, self.store)

    def task(self) -> Task[Any]:
        """The target's task, untrained: it measures."""
        told = task_spec(self.task_name, self.plan.model.tasks[self.task_name])
        goal = goal_of(told, self.schema, {stream: self.schema.layout(stream) for stream in self.schema.streams})
        part: Task[Any] = registry.build("tasks", told.spec, goal, self.plan.model.dim)
        return part

    def limited(self, seconds: float, ways: Mapping[Way, Ground]) -> tuple[Ground, dict[Way, Ground]]:
        """The ground and all ways with so many seconds for a run."""

        def within(ground: Ground) -> Ground:
            training = ground.plan.training.model_copy(update={"time_limit": round(seconds, 3)})
            return replace(ground, plan=ground.plan.model_copy(update={"training": training}))

        return within(self), {way: within(ground) for way, ground in ways.items()}

    def fused(self, fusion: str) -> Ground:
        """The same with another fusion, sized like the rest of the model, and all else as it is."""
        told = self.plan.model.fusion
        spec = told if told is not None and registry.split(told)[0] == fusion else fusion
        model = self.plan.model.model_copy(update={"fusion": spec})
        plan, _ = resolve(self.plan.model_copy(update={"model": model}), self.schema, len(self.rows))
        return replace(self, plan=plan)

    def identity(self, metric: str | None) -> str:
        """What two runs must share to stand in one table: all but the fusion."""
        plan = self.plan.model_copy(update={"model": self.plan.model.model_copy(update={"fusion": None})})
        told = [plan.model_dump(exclude={"data"}), self.schema.to_json(), metric]
        h = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for part in (self.rows, self.valid, self.test):
            h.update(json.dumps(part.contents()).encode())
        return h.hexdigest()[:16]


def chosen(fusions: str | Sequence[str]) -> list[str]:
    """The names asked for, all of them known."""
    known = registry.kinds("fusions")
    if fusions == "all":
        return list(known)
    names = [name.strip() for name in fusions.split(",")] if isinstance(fusions, str) else list(fusions)
    for name in names:
        if name not in known:
            raise ConfigError(f"no fusion named {name!r}{nearest(name, known)}")
    return list(dict.fromkeys(names))


def prepare(request: Request, test: Any, console: Console) -> tuple[Ground, str]:
    """Declared, split, learnt, resolved and encoded, once for all runs; and what the test rows are, in words."""
    ready = steps.prepare(request, console, test=Test(test, TEST_PART), check=_comparable)
    tested = ready.parts.tested
    assert tested is not None
    assert ready.test is not None
    unseen = f"{len(tested):,} rows of {tested.source} that no run has seen"
    where = unseen if test is None else f"the {len(tested):,} rows of {tested.source}"
    if len(ready.plan.model.tasks) != 1:
        raise ConfigError(f"{len(ready.plan.model.tasks)} targets cannot be compared at once", fix="name one: --target")
    # Networks are compared: what answers beside them would hide how they differ.
    single = ready.plan.model.model_copy(update={"experts": [], "features": {}, "networks": 1})
    plan = ready.plan.model_copy(update={"model": single})
    return Ground(plan, ready.schema, ready.rows, ready.valid, ready.test, ready.store), where


def _comparable(found: Parts, trials: int | None, plan: Recipe) -> None:
    if len(found.schema.targets) > 1:
        raise ConfigError(f"{len(found.schema.targets)} targets cannot be compared at once", fix="name one: --target")


def possible(ground: Ground, names: Sequence[str], leave_out: bool) -> tuple[dict[Way, Ground], dict[str, str]]:
    """The ground of every way that can be built, with its recipe; and why a fusion cannot."""
    streams = tuple(ground.schema.streams)
    found: dict[Way, Ground] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            with_it = ground.fused(name)
            assemble(with_it.plan.model, ground.schema)
        except (SensoriumError, ImportError, ValueError, RuntimeError) as error:
            # Too many streams, too large a product, a library that is not there: told in the table.
            skipped[name] = error.problem if isinstance(error, SensoriumError) else str(error)
            continue
        found[Way(name, name, streams, False)] = with_it
    if not found:
        raise ConfigError(f"no fusion can be built: {'; '.join(f'{n}: {why}' for n, why in skipped.items())}")
    if len(streams) == 1:
        return found, skipped
    for stream in streams:
        found[Way(f"{stream} alone", "single", (stream,), True)] = ground.narrowed([stream]).fused("single")
    if leave_out and len(streams) > 2:
        usual = registry.split(ground.plan.model.fusion or next(iter(found)).fusion)[0]
        for stream in streams:
            kept = tuple(s for s in streams if s != stream)
            found[Way(f"without {stream}", usual, kept, True)] = ground.narrowed(kept).fused(usual)
    return found, skipped

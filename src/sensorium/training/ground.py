"""What the runs of a comparison share: one split, one decoding, one set of encoders; and the ways to try on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sensorium.console import Console
from sensorium.core import registry
from sensorium.core.contracts import Task
from sensorium.core.errors import ConfigError, DataError, SensoriumError, nearest
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Column, Schema
from sensorium.data import rows as encoded
from sensorium.data.media import Under
from sensorium.data.store import Store
from sensorium.evaluation.comparison import Way
from sensorium.model import assemble
from sensorium.training import prepare as steps
from sensorium.training.defaults import resolve, surgery_of

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
    def target(self) -> Column:
        return self.schema.targets[0]

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
        dim = self.plan.model.dim
        part: Task[Any] = registry.build("tasks", self.plan.model.tasks[self.target.name], self.target.reader, dim)
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
            h.update(part.target(self.target.name).data.numpy().tobytes())
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


def prepare(
    source: Any,
    plan: Recipe,
    target: str | None,
    test: Any,
    roles: Mapping[str, str],
    media: str | Path | None,
    cache: str | Path | None,
    console: Console,
) -> tuple[Ground, str]:
    """Declared, split, learnt, resolved and encoded, once for all runs; and what the test rows are, in words."""
    if plan.data.stream:
        raise ConfigError("runs are compared on a table in memory", fix="leave out data.stream")
    table = steps.read(source, plan, media, console)
    schema = steps.declared(table, plan, [] if target is None else [target], roles, console)
    if len(schema.targets) != 1:
        raise ConfigError(f"{len(schema.targets)} targets cannot be compared at once", fix="name one: --target")
    if test is None:
        rest, tested = steps.split_off(steps.with_target(table, schema), schema, plan, TEST_PART)
        where = f"{len(tested):,} rows of {table.source} that no run has seen"
    else:
        rest, tested = table, steps.with_target(steps.read(test, plan, media, console), schema)
        where = f"the {len(tested):,} rows of {tested.source}"
    training, held_out = steps.parts(rest, plan.data.valid, schema, plan, media, console)
    steps.learn(schema, training, Under(table.root or Path.cwd(), anywhere=True), plan.seed)
    resolved, said = resolve(plan, schema, len(training), steps.class_sizes(schema, training))
    for line in said:
        console.note(f"  {line}")
    store = Store(Path(cache) if cache is not None else None)
    rows, valid = steps.encode_parts(schema, training, held_out, store, console)
    opener = Under(tested.root or Path.cwd(), anywhere=True)
    scored = encoded.encode(schema, tested, media=opener, store=store, tell=console.step)
    if not bool(scored.target(schema.targets[0].name).present.any()):
        raise DataError("no test row has a target that the training rows know", file=tested.source)
    return Ground(resolved, schema, rows, valid, scored, store), where


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

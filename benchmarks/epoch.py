"""Time of an epoch of ``fit`` (Lightning, store, loader), compared with a bare PyTorch loop on tensors in memory.

Both train the same model from the same seed with the same optimiser, schedule, clipping and augmentation, and validate
after every epoch; the bare loop computes loss and accuracy there, ``fit`` all metrics of the task.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Results, Settings, compared
from sensorium.core import registry
from sensorium.core.batch import Batch
from sensorium.core.forward import Forward
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import Rows, encode, target_fields
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.store.store import Store
from sensorium.data.synthetic import make
from sensorium.data.tables.table import Table
from sensorium.model import Model, assemble
from sensorium.nn.loss_reduction import weighted_mean
from sensorium.reporting.console import Console
from sensorium.training.column_declaration import declare
from sensorium.training.defaults import resolve
from sensorium.training.lightning_training import train_epochs
from sensorium.training.prepare import fit_modalities


@dataclass(frozen=True)
class Ticking(Rows):
    """Rows that record the time of each batch request."""

    ticks: list[tuple[float, float]] = field(default_factory=list)

    def batch(self, index: Any) -> Batch:
        self.ticks.append((time.process_time(), time.perf_counter()))
        return super().batch(index)


@dataclass
class Task:
    """The model, recipe and rows that both loops train with."""

    plan: Recipe
    schema: Schema
    rows: Rows
    valid: Rows

    def model(self) -> tuple[Model, list[Any]]:
        torch.manual_seed(0)
        model = assemble(self.plan.model, self.schema, experts=False)
        for task in model.tasks.values():
            task.fit(target_fields(self.schema, self.rows, task))
        return model, [registry.build("objectives", spec, model) for spec in self.plan.objectives]


def task(tables: dict[str, Path], ignore: list[str], cache: Path, epochs: int) -> Task:
    """Prepare the synthetic table as ``fit`` does."""
    sets = {"size": "small"}, {"epochs": epochs, "patience": 10**6}
    plan = Recipe.parse({"model": sets[0], "training": sets[1]})
    train, valid = Table.read(tables["train"]), Table.read(tables["valid"])
    schema = declare(train, plan, ["event"], dict.fromkeys(ignore, "ignore")).schema
    media, store = LocalFiles(tables["train"].parent, anywhere=True), Store(cache)
    fit_modalities(schema, train, media)
    plan, _ = resolve(plan, schema, len(train))
    return Task(
        plan, schema, encode(schema, train, media=media, store=store), encode(schema, valid, media=media, store=store)
    )


def ours(job: Task) -> list[tuple[float, float]]:
    """Return the seconds (CPU, wall) of the epochs of ``fit`` except the last, validation included."""
    model, objectives = job.model()
    ticking = Ticking(job.rows.inputs, job.rows.targets, job.rows.weight, job.rows.problems, job.rows.prompts)
    train_epochs(job.plan, job.schema, model, objectives, ticking, job.valid, None, False, Console(quiet=True))
    epochs = job.plan.training.epochs or 1
    return gaps(ticking.ticks[:: len(ticking.ticks) // epochs])


def bare(job: Task) -> list[tuple[float, float]]:
    """Return the seconds (CPU, wall) of the epochs of a hand-written loop except the first, validation included."""
    model, objectives = job.model()
    spec = job.plan.training
    schema = job.schema
    every = job.rows.batch(np.arange(len(job.rows), dtype=np.int64))
    held = job.valid.batch(np.arange(len(job.valid), dtype=np.int64))
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    matrices = [p for p in model.parameters() if p.ndim > 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=spec.lr or 1e-3,
        fused=True,
    )
    size, epochs = spec.batch_size or 32, spec.epochs or 1
    starts = list(range(0, len(job.rows), size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, spec.lr or 1e-3, epochs * len(starts) + 1)
    generator = torch.Generator().manual_seed(0)
    ticks = []
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(job.rows))
        for i, start in enumerate(starts):
            if i == 0:
                ticks.append((time.process_time(), time.perf_counter()))
            index = order[start : start + size]
            batch = schema.prepare(every.map(lambda t, index=index: t[index]), generator)  # type: ignore[misc]
            run = Forward(model, batch)
            terms = [term for objective in objectives for term in objective(run).values()]
            loss = torch.stack(terms).sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
            optimiser.step()
            schedule.step()
        model.eval()
        right, total = 0.0, 0.0
        with torch.inference_mode():
            for start in range(0, len(job.valid), 64):
                batch = schema.prepare(held.map(lambda t, start=start: t[start : start + 64]))  # type: ignore[misc]
                for name, output in model(batch).items():
                    target = batch.targets[name]
                    total += float(weighted_mean(model.tasks[name].loss(output, target), batch.weight))
                    right += float((output.argmax(dim=1) == target.data[:, 0]).sum())
        if not math.isfinite(total):
            raise AssertionError("the bare loop diverged")
    return gaps([*ticks, (time.process_time(), time.perf_counter())])[1:]


def gaps(ticks: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(ticks)]


def run(settings: Settings) -> Results:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder)
            tables = make(at / "data", rows=settings.few(1200, 60), valid=0.2, test=0.0)
            results: Results = []
            for name, ignore in (
                ("five streams", []),
                ("picture + sound", ["when", "room", "note", "sensor", "temperature"]),
            ):
                job = task(tables, ignore, at / "cache", settings.few(5, 3))
                mine, other = [], []
                for _ in range(settings.few(4, 1)):
                    mine += ours(job)[1:]
                    other += bare(job)[1:]
                count = min(len(mine), len(other))
                results += [
                    compared(
                        f"epoch, {name}, {clock}",
                        "s",
                        [c[i] for c in mine[:count]],
                        [c[i] for c in other[:count]],
                        at_most=1.1,
                        note=f"{len(job.rows)} rows, batch {job.plan.training.batch_size}, one torch thread" if i else "",
                    )
                    for i, clock in enumerate(("cpu", "wall"))
                ]
            return results
    finally:
        torch.set_num_threads(before)

"""Checks of objectives."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from sensorium.core.batch import Batch, Field
from sensorium.core.contracts import Encoder
from sensorium.core.forward import Forward
from sensorium.core.layout import Grid, Layout, Row
from sensorium.core.objective import Objective
from sensorium.core.registry import build
from sensorium.model import Model
from sensorium.testing import samples, tasks
from sensorium.testing.general import assert_same, check_description

LAYOUTS: dict[str, Layout] = {"picture": Grid(1, (8, 8)), "series": Grid(2, (9,)), "table": Row((0, 3))}
DIM = 16


def check_objective(kind: str) -> None:
    """Check the objective ``kind``: finite scalar terms with finite gradients; no term, or zero, for a batch without
    usable rows."""
    check_description("objectives", kind)
    where = f"objectives/{kind}"
    learner, full = model(), batch()
    objective: Objective = build("objectives", kind, learner)
    rows = full.rows

    holes = full.keep({s: torch.arange(rows) % 3 != i for i, s in enumerate(LAYOUTS)})
    for sample in (full, holes):
        learner.zero_grad()
        terms = run(objective, learner, sample)
        assert terms, f"{where}: no term for a batch with everything"
        for name, term in terms.items():
            assert term.shape == (), f"{where}: {name} is {tuple(term.shape)}, not a number"
            assert bool(term.isfinite()), f"{where}: {name} is not finite"
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        grads = [p.grad for p in learner.parameters() if p.grad is not None]
        assert any(bool(grad.any()) for grad in grads), f"{where}: no gradient reaches the model"
        assert all(bool(grad.isfinite().all()) for grad in grads), f"{where}: a gradient is not finite"

    assert_same(run(objective, learner, full), run(objective, learner, full), f"{where}: the seed is not all chance")
    targets = {name: replace(f, present=torch.zeros_like(f.present)) for name, f in full.targets.items()}
    nothing = replace(full.without(*LAYOUTS), targets=targets)
    for name, term in run(objective, learner, nothing).items():
        assert float(term.detach()) == 0.0, f"{where}: {name} is {float(term.detach())} where no row qualifies"


def run(objective: Objective, learner: Model, batch: Batch) -> dict[str, Any]:
    """The terms of ``objective`` for the batch ``batch``, passed through ``learner``."""
    torch.manual_seed(5)
    terms: dict[str, Any] = objective(Forward(learner, batch))
    return terms


def model() -> Model:
    """Return a small classifier of three streams."""
    torch.manual_seed(0)
    new = partial(build, "encoders")
    encoders: dict[str, Encoder] = {
        "picture": new({"kind": "patch", "dim": DIM, "depth": 1}, LAYOUTS["picture"]),
        "series": new({"kind": "convnet", "dim": DIM, "depth": 2, "width": 4, "norm": "layer"}, LAYOUTS["series"]),
        "table": new({"kind": "cells", "dim": DIM, "depth": 1}, LAYOUTS["table"]),
    }
    goal, _ = tasks.goal_of("classification")
    goal = replace(goal, streams=LAYOUTS)
    return Model(
        encoders,
        {s: build("adapters", "linear", DIM, DIM) for s in encoders},
        build("fusions", "gated", list(encoders), DIM),
        {tasks.TASK: build("tasks", "classification", goal, DIM)},
    ).eval()


def batch() -> Batch:
    """Return twelve rows for ``model``, with every stream present."""
    _, target = tasks.target_of("classification")
    rows = target.present.shape[0]
    presence = torch.ones(rows, dtype=torch.bool)
    inputs = {s: Field(samples.data(layout, rows), presence, samples.masks(layout, rows)) for s, layout in LAYOUTS.items()}
    return Batch(inputs, {tasks.TASK: target}, torch.ones(rows))

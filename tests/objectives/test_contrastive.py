"""Contrastive losses against their formulas in float64, row by row."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.registry import build
from sensorium.testing import objectives

STREAMS = list(objectives.LAYOUTS)


def expected(objective: Any, run: Forward, kind: str) -> float:
    """Equation by equation: CLIP's symmetric cross-entropy, SigLIP's sum over all pairs; mean over pairs of streams."""
    scale, terms = float(objective.scale.detach().double().exp()), []
    for a, b in combinations(range(len(STREAMS)), 2):
        left, right = run.streams[STREAMS[a]], run.streams[STREAMS[b]]
        rows = [i for i in range(run.batch.rows) if bool(left.present[i]) and bool(right.present[i])]
        weight = [float(run.batch.weight[i]) for i in rows]
        rows = [i for i, w in zip(rows, weight, strict=True) if w > 0]
        weight = [w for w in weight if w > 0]
        if len(rows) < 2:
            continue
        unit = []
        for s, part in ((a, left), (b, right)):
            z = part.pooled.detach().double().numpy()[rows] @ objective.project[s].weight.detach().double().numpy().T
            unit.append(z / np.linalg.norm(z, axis=1, keepdims=True))
        logits = scale * unit[0] @ unit[1].T
        losses = []
        for i in range(len(rows)):
            if kind == "softmax":
                across = np.log(np.exp(logits[i]).sum()) - logits[i, i]
                down = np.log(np.exp(logits[:, i]).sum()) - logits[i, i]
                losses.append((across + down) / 2)
            else:
                bias = float(objective.bias.detach())
                signs = [1 if i == j else -1 for j in range(len(rows))]
                losses.append(sum(np.log1p(np.exp(-z * (x + bias))) for z, x in zip(signs, logits[i], strict=True)))
        terms.append(np.average(losses, weights=weight))
    return float(np.mean(terms))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("holes", [False, True])
def test_it_is_the_formula(kind: str, holes: bool) -> None:
    torch.manual_seed(0)
    learner, batch = objectives.model(), objectives.batch()
    batch = replace(batch, weight=torch.linspace(0, 2, batch.rows))
    if holes:
        batch = batch.keep({s: torch.arange(batch.rows) % 3 != i for i, s in enumerate(STREAMS)})
    objective = build(
        "objectives", {"kind": "contrastive", "loss": kind, "weight": 0.3, "width": 8, "temperature": 0.2}, learner
    )
    run = Forward(learner, batch)
    result = float(objective(run)["contrastive"].detach())
    assert result == pytest.approx(0.3 * expected(objective, run, kind), rel=1e-4)


def test_fewer_than_two_rows_with_both_say_nothing() -> None:
    learner, batch = objectives.model(), objectives.batch()
    objective = build("objectives", "contrastive", learner)
    lone = torch.arange(batch.rows) == 3
    apart = {s: torch.arange(batch.rows) % 3 == i for i, s in enumerate(STREAMS)}
    for keep in (apart, {STREAMS[0]: lone, STREAMS[1]: lone, STREAMS[2]: lone}):
        assert objective(Forward(learner, batch.keep(keep))) == {}
    assert not objective.per_row


def test_training_brings_the_streams_of_a_row_together() -> None:
    torch.manual_seed(0)
    learner, batch = objectives.model(), objectives.batch()
    objective = build("objectives", {"kind": "contrastive", "weight": 1.0, "temperature": 0.5}, learner)
    optimiser = torch.optim.Adam([*learner.parameters(), *objective.parameters()], lr=1e-2)
    course = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = objective(Forward(learner, batch))["contrastive"]
        loss.backward()
        optimiser.step()
        course.append(float(loss.detach()))
    assert course[-1] < 0.7 * course[0]
    assert float(objective.scale.detach()) > math.log(2) + 0.05  # the temperature was learnt too
    with torch.no_grad():
        objective.scale.fill_(50.0)  # held below 100: nothing overflows
        assert bool(objective(Forward(learner, batch))["contrastive"].isfinite())


@pytest.mark.parametrize("options", [{"weight": -1}, {"temperature": 0.0}, {"loss": "triplet"}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        build("objectives", {"kind": "contrastive", **options}, objectives.model())

"""Streams answer alone, those that are behind count most."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sensorium.core.batch import only
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.registry import build
from sensorium.testing import objectives

STREAMS = list(objectives.LAYOUTS)


@pytest.mark.parametrize("focus", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("holes", [False, True])
def test_it_is_the_weighted_sum_of_each_streams_own_loss(focus: float, holes: bool) -> None:
    learner, batch = objectives.model(), objectives.batch()
    batch = replace(batch, weight=torch.linspace(0, 2, batch.rows))
    if holes:
        batch = batch.keep({s: torch.arange(batch.rows) % 3 != i for i, s in enumerate(STREAMS)})
    objective = build("objectives", {"kind": "balance", "weight": 0.7, "focus": focus}, learner)
    losses = []
    for stream in STREAMS:
        parts = only(learner.encode(batch), stream)
        task, target = learner.tasks["class"], batch.targets["class"]
        each = task.loss(task(learner.fusion(parts), parts, {}), target).detach().double()
        weight = batch.weight.double() * parts[stream].present
        losses.append(float((each * weight).sum() / weight.sum()))
    shares = [x**focus / sum(y**focus for y in losses) for x in losses]
    expected = 0.7 * sum(s * x for s, x in zip(shares, losses, strict=True))
    assert float(objective(Forward(learner, batch))["class/alone"].detach()) == pytest.approx(expected, rel=1e-4)


def test_the_stream_that_is_behind_gets_the_larger_share() -> None:
    objective: Any = build("objectives", "balance", objectives.model())
    shares = objective.shares(torch.tensor([0.1, 1.0, 0.5]), torch.tensor([True, True, False]))
    torch.testing.assert_close(shares, torch.tensor([0.1 / 1.1, 1 / 1.1, 0.0]))
    assert not bool(objective.shares(torch.zeros(3), torch.zeros(3, dtype=torch.bool)).any())
    assert bool(objective.shares(torch.zeros(3), torch.ones(3, dtype=torch.bool)).isfinite().all())


@pytest.mark.parametrize("option", ["weight", "focus"])
def test_bad_options_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        build("objectives", {"kind": "balance", option: -1.0}, objectives.model())

"""Gradient reversal, and what it does to a discriminator on vectors that say where they come from."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sensorium.core.batch import Batch, Encoded
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.registry import build
from sensorium.nn.gradient_reversal import reverse
from sensorium.testing import objectives

D = 8


def test_reversal_keeps_values_and_turns_gradients() -> None:
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, dtype=torch.float64)
    assert torch.equal(reverse(x, 0.3), x)
    (reverse(x, 0.3).sin() * weight).sum().backward()
    torch.testing.assert_close(x.grad, -0.3 * x.detach().cos() * weight)


def test_encoders_climb_what_the_discriminator_descends() -> None:
    learner, batch = objectives.model(), objectives.batch()
    torch.manual_seed(0)
    objective = build("objectives", {"kind": "adversarial", "weight": 0.25}, learner)
    run = Forward(learner, batch)
    reversed_ = torch.autograd.grad(objective(run)["adversarial"], list(learner.parameters()), allow_unused=True)
    pooled = torch.stack([part.pooled for part in Forward(learner, batch).streams.values()], dim=1)
    weight = torch.ones(pooled.shape[:2])
    straight = torch.autograd.grad(
        objective.discriminator_loss(pooled, weight), list(learner.parameters()), allow_unused=True
    )
    assert any(g is not None and bool(g.any()) for g in straight)
    for turned, plain in zip(reversed_, straight, strict=True):
        if plain is not None:
            torch.testing.assert_close(turned, -0.25 * plain, rtol=1e-4, atol=1e-7)


class Toy(nn.Module):
    """Two streams that hold the same thing, each written down with an offset of its own that gives it away."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleList(nn.Linear(D, D) for _ in range(2))
        self.x = torch.zeros(1, D)
        self.fusion: Any = SimpleNamespace(streams=("one", "two"), dim=D)
        self.tasks: dict[str, Any] = {}

    def encode(self, batch: Batch, least: int | None = None) -> dict[str, Encoded]:
        present = torch.ones(batch.rows, dtype=torch.bool)
        parts = {}
        for i, (name, encoder) in enumerate(zip(("one", "two"), self.encoders, strict=True)):
            pooled: Tensor = encoder(self.x + (0.5 if i else -0.5))
            parts[name] = Encoded(pooled[:, None], present[:, None], pooled, present)
        return parts


def result(weight: float) -> tuple[float, float]:
    """How often the discriminator is right late in training, and the error of what both streams must still say."""
    toy = Toy()
    draw = torch.Generator().manual_seed(1)
    objective = build("objectives", {"kind": "adversarial", "weight": weight, "hidden": 16}, toy)
    read = nn.Linear(D, 1)
    optimiser = torch.optim.Adam([*toy.parameters(), *objective.parameters(), *read.parameters()], lr=5e-3)
    batch = Batch({}, {}, torch.ones(64))
    right, wrong = [], []
    for step in range(200):
        toy.x = torch.randn(64, D, generator=draw)
        optimiser.zero_grad()
        run = Forward(toy, batch)  # type: ignore[arg-type]
        parts = list(run.streams.values())
        kept = sum((read(p.pooled)[:, 0] - toy.x[:, 0]).square().mean() for p in parts) / 2
        (objective(run)["adversarial"] + kept).backward()
        optimiser.step()
        if step >= 120:
            guess = objective.discriminator(torch.stack([p.pooled for p in parts], dim=1)).argmax(dim=2)
            right.append(float((guess == torch.arange(2)).float().mean()))
            wrong.append(float(kept.detach()))
    return sum(right) / len(right), sum(wrong) / len(wrong)


def test_the_discriminator_is_fooled_while_streams_stay_informative() -> None:
    without, _ = result(0.0)
    against, error = result(1.0)
    assert without > 0.95
    assert against < 0.85
    assert error < 0.2


def test_one_stream_has_nothing_to_be_told_from() -> None:
    learner, batch = objectives.model(), objectives.batch()
    objective = build("objectives", "adversarial", learner)
    run = Forward(learner, batch.without("series", "table"))
    assert objective(run) == {}
    assert float(objective(Forward(learner, batch))["adversarial"].detach()) == pytest.approx(math.log(3), abs=0.4)


def test_rare_streams_count_as_much_as_common_ones() -> None:
    objective = build("objectives", "adversarial", objectives.model())
    pooled = torch.randn(8, 3, objectives.DIM)
    weight = torch.ones(8, 3)
    weight[1:, 2] = 0
    chances = objective.discriminator(pooled).double().log_softmax(dim=2)
    expected = -(chances[:, 0, 0].mean() + chances[:, 1, 1].mean() + chances[0, 2, 2]) / 3
    torch.testing.assert_close(objective.discriminator_loss(pooled, weight).double(), expected, rtol=1e-5, atol=1e-6)


def test_the_joint_vector_is_taught_to_hold_each_modality() -> None:
    torch.manual_seed(0)
    learner, batch = objectives.model(), objectives.batch()
    objective = build("objectives", {"kind": "adversarial", "weight": 0.0, "reconstruct": 1.0}, learner)
    first = objective(Forward(learner, batch))
    assert set(first) == {"adversarial", "adversarial/real", "adversarial/rebuilt"}
    assert float(first["adversarial/real"].detach()) == pytest.approx(2 * math.log(2), abs=0.4)
    # The true vector is the aim: only by way of the joint vector does any gradient reach the encoders.
    run = Forward(learner, batch)
    run.__dict__["fused"] = run.fused.map(lambda t: t.detach())
    objective(run)["adversarial/rebuilt"].backward()
    assert all(p.grad is None or not bool(p.grad.any()) for p in learner.encoders.parameters())
    optimiser = torch.optim.Adam([*learner.parameters(), *objective.parameters()], lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        torch.stack(list(objective(Forward(learner, batch)).values())).sum().backward()
        optimiser.step()
    last = objective(Forward(learner, batch))["adversarial/rebuilt"]
    assert float(last.detach()) < 0.6 * float(first["adversarial/rebuilt"].detach())


@pytest.mark.parametrize("option", ["weight", "reconstruct"])
def test_bad_options_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        build("objectives", {"kind": "adversarial", option: -0.1}, objectives.model())

"""Optimisers: each changes training and resumes exactly; an L1 penalty zeroes weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sensorium as sm
from sensorium.core.recipe import Training
from sensorium.training.callbacks import Checkpoint
from sensorium.training.optimiser import DEFAULT_LR, MOMENTUM, optimiser, resolve_rates

QUICK = ["model.size=tiny", "training.epochs=3", "training.batch_size=16", "training.average=0"]
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(96, 2))
TABLE = {"a": X[:, 0].tolist(), "b": X[:, 1].tolist(), "y": np.where(X.sum(axis=1) > 0, "yes", "no").tolist()}


def run(*overrides: str, **options: Any) -> Any:
    return sm.fit(TABLE, target="y", overrides=[*QUICK, *overrides], quiet=True, **options)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def same(one: Any, other: Any) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def stepped(training: Training, steps: int = 3) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    made = optimiser(layer.parameters(), {}, training)
    for i in range(steps):
        made.zero_grad()
        layer(torch.full((2, 4), 1.0 + i)).square().sum().backward()
        made.step()
    return layer


def test_sgd_uses_nesterov_momentum() -> None:
    result = stepped(Training(optimizer="sgd", lr=0.01, weight_decay=0.0))
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    wanted = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    for i in range(3):
        wanted.zero_grad()
        layer(torch.full((2, 4), 1.0 + i)).square().sum().backward()
        wanted.step()
    assert torch.allclose(result.weight, layer.weight)
    assert torch.allclose(result.bias, layer.bias)


def test_weight_decay_is_equally_strong_with_both_optimisers() -> None:
    """Without a gradient a matrix shrinks by the same factor, once momentum has gathered."""
    left = {}
    for name in ("adamw", "sgd"):
        weight = nn.Parameter(torch.ones(2, 2))
        made = optimiser([weight], {}, Training(optimizer=name, lr=DEFAULT_LR[name], weight_decay=0.05))
        for _ in range(400):
            weight.grad = torch.zeros_like(weight)
            made.step()
        left[name] = float(weight.detach().mean().log())
    assert left["sgd"] == pytest.approx(left["adamw"], rel=0.05)
    assert MOMENTUM == 0.9


def test_l1_soft_thresholds_matrices_only() -> None:
    one = stepped(Training(lr=0.01, weight_decay=0.0), steps=1)
    other = stepped(Training(lr=0.01, weight_decay=0.0, l1=5.0), steps=1)
    assert torch.allclose(other.weight, nn.functional.softshrink(one.weight, 0.05))
    assert torch.equal(other.bias, one.bias)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_strong_l1_penalty_zeroes_most_weights(name: str) -> None:
    rate = DEFAULT_LR[name]
    model = run(f"training.optimizer={name}", f"training.l1={0.02 / rate}")
    matrices = torch.cat([p.detach().flatten() for p in model.model.parameters() if p.ndim > 1])
    assert float((matrices == 0).float().mean()) > 0.5


def test_optimiser_and_l1_change_training_and_default_rate() -> None:
    usual, sgd, sparse = run(), run("training.optimizer=sgd"), run("training.l1=0.1")
    assert not same(usual, sgd)
    assert not same(usual, sparse)
    assert (usual.recipe.training.lr, sgd.recipe.training.lr) == (DEFAULT_LR["adamw"], DEFAULT_LR["sgd"])
    assert sgd.history[-1]["valid_loss"] < sgd.history[0]["valid_loss"]


def test_pretrained_parts_keep_their_share_of_the_rate() -> None:
    encoders: dict[str, Any] = {"text": {"kind": "huggingface", "checkpoint": "somewhere"}}
    shares = [
        resolve_rates(Training(optimizer=name), DEFAULT_LR[name], encoders, "gated", [])[0]["lr_scale"]["text"]
        for name in ("adamw", "sgd")
    ]
    assert shares[0] == pytest.approx(shares[1], rel=1e-2)


class KilledError(Exception):
    """Stands for a power cut."""


def test_momentum_resumes_bit_identically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("training.optimizer=sgd", "training.l1=0.01")
    whole = run(*options)
    real = Checkpoint.on_train_epoch_end

    def killed(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        if len(module.history) == 2:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_epoch_end", killed)
        with pytest.raises(KilledError):
            run(*options, out=tmp_path / "run")
    assert same(run(*options, out=tmp_path / "run", resume=True), whole)

"""Checks of surgeries."""

from __future__ import annotations

from typing import Any

import torch

from sensorium.core.contracts import Surgery
from sensorium.core.forward import Forward
from sensorium.core.recipe import Spec
from sensorium.core.registry import build
from sensorium.model import Model
from sensorium.testing import objectives
from sensorium.testing.general import assert_same, check_description, perturbed


def check_surgery(kind: str) -> None:
    """Check the surgery ``kind``: names of weights are kept, repeating it on a fresh model allows loading the saved
    weights, and the model trains."""
    check_description("surgery", kind)
    where, batch = f"surgery/{kind}", objectives.batch()
    before = objectives.model()
    changed = perturbed(operated(kind))
    names = set(changed.state_dict())
    assert set(before.state_dict()) <= names, f"{where}: weights that were there have another name"
    assert_same(_answer(operated(kind), batch), _answer(before, batch), f"{where}: a model answers otherwise at once")
    twin = operated(kind)
    twin.load_state_dict(changed.state_dict())
    assert_same(_answer(twin, batch), _answer(changed, batch), f"{where}: loaded again it answers otherwise")
    changed.train()
    objective = build("objectives", "supervised", changed)
    torch.stack(list(objective(Forward(changed, batch)).values())).sum().backward()  # type: ignore[no-untyped-call]
    grads = [p.grad for p in changed.parameters() if p.grad is not None]
    assert any(bool(grad.any()) for grad in grads), f"{where}: nothing is left to train"
    held = {name for name, p in changed.named_parameters() if not p.requires_grad and p.grad is not None}
    assert not held, f"{where}: gradients reach frozen weights {sorted(held)}"


def operated(spec: Spec) -> Model:
    """A small model after the surgery ``spec``."""
    learner = objectives.model()
    surgery: Surgery = build("surgery", spec)
    surgery.apply(learner)
    return learner


def signature(spec: dict[str, Any]) -> Any:
    """What an option of the surgery ``spec`` may change: the weights, which of them train, the answers, the description."""
    learner = operated(spec)
    learning = sorted(name for name, p in learner.named_parameters() if p.requires_grad)
    batch = objectives.batch()
    torch.manual_seed(1)
    trained = perturbed(learner).train()(batch)
    shapes = [f"{name} {tuple(value.shape)}" for name, value in learner.state_dict().items()]
    # Whether outputs are stored is the trainer's business: it reads it here.
    return learning, shapes, trained, _answer(learner, batch), spec.get("store")


def _answer(learner: Model, batch: Any) -> Any:
    with torch.no_grad():
        return learner.eval()(batch)

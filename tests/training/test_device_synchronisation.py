"""No step of training makes the host wait for the device: nothing in it asks for a value, or for how many rows qualify.

What would wait is counted on a CPU: the operations that hand the host a number, or a shape that follows from
values, to the host. What only a CPU is asked (``device.type == "cpu"``) would count here too, and none is met.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sensorium.reporting.console import Console
from sensorium.training.lightning_module import TrainingModule
from sensorium.training.network_training import build
from sensorium.training.prepare import prepare
from sensorium.training.training_request import Request

ASKS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal", "aten::masked_select"}
ASKS |= {"aten::_unique2", "aten::unique_consecutive", "aten::unique_dim"}
BY_MASK = ("aten::index.Tensor", "aten::index_put", "aten::_index_put_impl_")


class Waits(TorchDispatchMode):
    """Counts what makes the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.seen = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = operation.name(), kwargs or {}
        self.seen += 1
        by_mask = name.startswith(BY_MASK) and any(isinstance(i, Tensor) and i.dtype == torch.bool for i in args[1])
        if name in ASKS or by_mask or (name.startswith("aten::repeat_interleave") and kwargs.get("output_size") is None):
            self.counts[name] += 1
        return operation(*args, **kwargs)


def waits(folder: Path, overrides: list[str], counted: bool = True) -> Counter[str]:
    """What makes the host wait in two whole steps: preparing, forward, backward, clipping, the optimiser."""
    quiet = Console(quiet=True)
    targets = ["event", "cost", "tags"]
    request = Request.of(folder / "train.csv", target=targets, overrides=["model.size=tiny", *overrides])
    ready = prepare(request, quiet)
    plan, schema, rows, valid = ready.plan, ready.schema, ready.rows, ready.valid
    with torch.random.fork_rng(devices=[]):
        model, objectives = build(plan, schema, rows, quiet)
        lit = TrainingModule(model, objectives, schema, plan.training, rows=rows, valid=valid, seed=0).train()
        optimiser = lit.configure_optimizers()["optimizer"]
        mode = Waits()
        for i, (batch, _) in enumerate(zip(lit.loader(0), range(2), strict=False)):
            assert not batch.inputs["note"].present.all(), "some rows lack a stream"
            batch = batch.counted() if counted else batch
            lit.on_train_batch_start(batch, i)
            with mode:
                loss = lit.training_step(batch, i)
                optimiser.zero_grad()
                loss.backward()
                lit.configure_gradient_clipping(optimiser)
                optimiser.step()
    assert mode.seen > 1000
    return mode.counts


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [
            "model.encoders.note=transformer",
            "model.encoders.sensor=recurrent",
            "model.fusion=cross_modal",
            "objectives=[mixup]",
        ],
    ],
    ids=["default", "attention"],
)
def test_no_step_synchronises_with_the_device(scenes: Path, overrides: list[str]) -> None:
    assert not waits(scenes, overrides)


def test_counter_detects_synchronisation(scenes: Path) -> None:
    """Which rows have a stream, asked in the midst of a step; and an objective that must know which rows qualify."""
    assert waits(scenes, [], counted=False)["aten::nonzero"] >= 2 * 4
    assert waits(scenes, ["objectives=[supervised,contrastive]"])["aten::nonzero"] > 0

"""Timing and comparison of real training steps under different settings, on copies of the model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.recipe import Training
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import Rows
from sensorium.model import Model
from sensorium.training.compilation import compiled_for_training
from sensorium.training.lightning_module import TrainingModule

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
ROUND, MOST = 0.2, 16
"""Target duration of a round of steps in seconds, and its maximum number of steps."""
LEAST_ROUNDS, ROUNDS = 3, 15
HOPELESS = 0.5
"""A setting with a speed ratio below this in one round is not measured further."""


@dataclass(frozen=True)
class Job:
    """What is to be trained, before its first step; it is copied and not changed."""

    model: Model
    objectives: list[Any]
    schema: Schema
    rows: Rows
    seed: int
    device: torch.device


class Gradient(NamedTuple):
    """The loss of a batch and all its gradients in one vector, in float64."""

    loss: float
    vector: Tensor


class StepTimer:
    """Runs steps under one setting, as a context manager; its copy of the model is freed afterwards."""

    def __init__(self, job: Job, spec: Training) -> None:
        self.job, self.spec = job, spec
        model, objectives = deepcopy((job.model, job.objectives))
        self.module = TrainingModule(model, objectives, job.schema, spec, rows=job.rows, valid=job.rows, seed=job.seed)
        self.module.to(job.device).train()
        self._open = ExitStack()
        self._batches = self._endless()

    def __enter__(self) -> Self:
        self._open.enter_context(compiled_for_training(self.module.model, self.spec))
        self.optimiser = self.module.configure_optimizers()["optimizer"]
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def _endless(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from self.module.loader(epoch)
            epoch += 1

    def steps(self, count: int) -> float:
        """Return the seconds per row of ``count`` full steps, including the gathering of batches."""
        torch.set_num_threads(self.spec.threads or 1)
        rows, began = 0, time.perf_counter()
        for batch in (next(self._batches) for _ in range(count)):
            rows += batch.rows
            self._backward(batch)
            self.module.configure_gradient_clipping(self.optimiser)
            self.optimiser.step()
        if self.job.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / rows

    def gradient(self, *, training: bool) -> Gradient:
        """Return loss and gradient of the first batch; dropout is off unless ``training``, so that settings compare."""
        torch.set_num_threads(self.spec.threads or 1)
        self.module.train(training)
        # cuDNN's recurrent layers have a backward pass in training mode only.
        with torch.backends.cudnn.flags(enabled=training):
            loss = self._backward(next(iter(self.module.loader(0))))
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.module.parameters() if p.requires_grad]
        vector = (
            torch.cat([g.detach().double().flatten().cpu() for g in gradients]) if gradients else torch.zeros(1).double()
        )
        self.optimiser.zero_grad()
        self.module.train()
        return Gradient(float(loss.detach()), vector)

    def _backward(self, batch: Batch) -> Tensor:
        batch = self.module.transfer_batch_to_device(batch, self.job.device, 0)
        self.module.on_train_batch_start(batch, 0)
        half = HALF.get(self.spec.precision)
        with torch.autocast(self.job.device.type, dtype=half) if half is not None else nullcontext():
            loss = self.module.training_step(batch, 0)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss


def relative_difference(one: Gradient, other: Gradient) -> tuple[float, float]:
    """Return the differences of losses and of gradient vectors of ``one`` and ``other``, relative to ``one``."""
    loss = abs(other.loss - one.loss) / max(abs(one.loss), 1e-12)
    return loss, float((other.vector - one.vector).norm() / one.vector.norm().clamp(min=1e-12))


def speed_ratios(one: StepTimer, other: StepTimer, seconds: float, least: int = 1) -> list[float]:
    """Return how many times as fast as ``one`` the ``other`` is, by round; which goes first alternates.

    Args:
        one: The current setting.
        other: The setting to compare.
        seconds: Approximate duration of the measurement.
        least: Minimum steps of a round: several where batches differ in size.
    """
    began = time.perf_counter()
    slowest = max(timer.steps(1) * timer.module.batch_size for timer in (one, other))
    count = max(least, min(MOST, round(ROUND / max(slowest, 1e-6))))
    ratios: list[float] = []
    while len(ratios) < LEAST_ROUNDS or (time.perf_counter() - began < seconds and len(ratios) < ROUNDS):
        order = (one, other) if len(ratios) % 2 == 0 else (other, one)
        times = {id(timer): timer.steps(count) for timer in order}
        ratios.append(times[id(one)] / times[id(other)])
        if ratios[-1] < HOPELESS:
            break
    return ratios

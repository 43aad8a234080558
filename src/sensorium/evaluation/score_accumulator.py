"""Accumulation of scores and losses of every task over batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.module_dict import NamedModules
from sensorium.core.scorer import GrowingTensor, Scorer, joined, plain_scores
from sensorium.core.task import Task

UNWEIGHTED = "unweighted_loss"
"""Name of the unweighted loss (``Task.reported_loss``) in a training history."""


@dataclass
class TaskAccumulator:
    """Accumulated scores and losses of one task.

    Args:
        task: The task.
        scorer: The scorer that holds the rows for its metrics.
        losses: The training loss ``[rows]``; NaN where a row has no target.
        reported_losses: The unweighted loss of reports ``[rows]`` (``Task.reported_loss``).
        weights: The weight of each row ``[rows]``; 0 where it has no target.
    """

    task: Task[Any]
    scorer: Scorer[Any]
    losses: GrowingTensor = field(default_factory=GrowingTensor)
    reported_losses: GrowingTensor = field(default_factory=GrowingTensor)
    weights: GrowingTensor = field(default_factory=GrowingTensor)

    @property
    def loss(self) -> Tensor:
        """The training loss ``[rows]``."""
        return self.losses.whole

    @property
    def reported_loss(self) -> Tensor:
        """The unweighted loss ``[rows]``."""
        return self.reported_losses.whole

    @property
    def weight(self) -> Tensor:
        """The weight of each row ``[rows]``."""
        return self.weights.whole

    @property
    def rows(self) -> int:
        """Number of scored rows."""
        return self.scorer.rows

    def scores(self) -> dict[str, float]:
        """Return the value of every metric."""
        return plain_scores(self.scorer)


class ScoreAccumulator:
    """Accumulates scores and losses of all tasks of a model.

    Args:
        tasks: The tasks.
        losses: Whether to keep the loss of each row too.
    """

    def __init__(self, tasks: NamedModules[Task[Any]], *, losses: bool = True) -> None:
        self.each = {name: TaskAccumulator(task, task.scorer()) for name, task in tasks.items()}
        self.losses = losses

    def update(self, outputs: Mapping[str, Any], batch: Batch) -> None:
        """Add the model's ``outputs`` (by task) for ``batch``."""
        for name, accumulator in self.each.items():
            self.add(accumulator, outputs[name], batch)

    def add(self, accumulator: TaskAccumulator, output: Any, batch: Batch) -> None:
        """Add the ``output`` of one task for ``batch`` to its ``accumulator``."""
        accumulator.scorer.update(output, batch)
        target = accumulator.task.target(batch) if self.losses else None
        if target is not None:
            for kept, loss in (
                (accumulator.losses, accumulator.task.loss),
                (accumulator.reported_losses, accumulator.task.reported_loss),
            ):
                kept.extend(torch.where(target.present, loss(output, target).detach().float(), torch.nan))
            accumulator.weights.extend(batch.weight * target.present)

    # ── exchange between processes ─────────────────────────────────────────────────────────────────────────────────

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the accumulated data as tensors and plain values."""
        return {
            name: {
                "kept": accumulator.scorer.kept,
                "rows": {"loss": accumulator.loss, "told": accumulator.reported_loss, "weight": accumulator.weight},
            }
            for name, accumulator in self.each.items()
        }

    def load(self, states: Iterable[Mapping[str, Mapping[str, Any]]]) -> None:
        """Replace the content by the concatenated ``states`` of several processes."""
        every = list(states)
        for name, accumulator in self.each.items():
            accumulator.scorer.load(joined([state[name]["kept"] for state in every]))
            together = joined([state[name]["rows"] for state in every])
            accumulator.losses, accumulator.reported_losses, accumulator.weights = (
                GrowingTensor(),
                GrowingTensor(),
                GrowingTensor(),
            )
            accumulator.losses.extend(together["loss"])
            accumulator.reported_losses.extend(together["told"])
            accumulator.weights.extend(together["weight"])


def scores_of(scorer: Scorer[Any], names: Collection[str]) -> dict[str, float]:
    """Return the metrics ``names`` of the rows in ``scorer``, without resampling."""
    return {name: float(values[0]) for name, values in scorer.compute(names=names).items()}

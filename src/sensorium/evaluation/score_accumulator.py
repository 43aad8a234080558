"""Scores and losses of every task, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.contracts import Task
from sensorium.core.module_dict import ByName
from sensorium.core.scorer import Grown, Scorer, joined, plain_scores

UNWEIGHTED = "unweighted_loss"
"""What a history calls the loss of rows that all count alike (``Task.told_loss``)."""


@dataclass
class TaskTally:
    """One task over some rows.

    Args:
        scorer: What was kept for its metrics.
        losses: ``[rows]``, what is minimised; NaN where a row has no target.
        tolds: ``[rows]``, the same as reports tell it: every row alike (``Task.told_loss``).
        weights: ``[rows]``: how much each row counts, 0 where it has no target.
    """

    task: Task[Any]
    scorer: Scorer[Any]
    losses: Grown = field(default_factory=Grown)
    tolds: Grown = field(default_factory=Grown)
    weights: Grown = field(default_factory=Grown)

    @property
    def loss(self) -> Tensor:
        """``[rows]``."""
        return self.losses.whole

    @property
    def told(self) -> Tensor:
        """``[rows]``."""
        return self.tolds.whole

    @property
    def weight(self) -> Tensor:
        """``[rows]``."""
        return self.weights.whole

    @property
    def rows(self) -> int:
        """How many rows were scored."""
        return self.scorer.rows

    def scores(self) -> dict[str, float]:
        """Every metric."""
        return plain_scores(self.scorer)


class Tally:
    """All tasks of a model over some rows.

    Args:
        losses: Whether the loss of each row is kept too.
    """

    def __init__(self, tasks: ByName[Task[Any]], *, losses: bool = True) -> None:
        self.each = {name: TaskTally(task, task.scorer()) for name, task in tasks.items()}
        self.losses = losses

    def update(self, outputs: Mapping[str, Any], batch: Batch) -> None:
        """Take in what the model answered to a batch."""
        for name, one in self.each.items():
            self.add(one, outputs[name], batch)

    def add(self, one: TaskTally, output: Any, batch: Batch) -> None:
        """Take in what one task answered to a batch."""
        one.scorer.update(output, batch)
        target = one.task.target(batch) if self.losses else None
        if target is not None:
            for kept, loss in ((one.losses, one.task.loss), (one.tolds, one.task.told_loss)):
                kept.extend(torch.where(target.present, loss(output, target).detach().float(), torch.nan))
            one.weights.extend(batch.weight * target.present)

    # ── from one process to another ────────────────────────────────────────────────────────────────────────────────

    def state(self) -> dict[str, dict[str, Any]]:
        """What was kept, as tensors and plain values."""
        return {
            name: {"kept": one.scorer.kept, "rows": {"loss": one.loss, "told": one.told, "weight": one.weight}}
            for name, one in self.each.items()
        }

    def load(self, states: Iterable[Mapping[str, Mapping[str, Any]]]) -> None:
        """Take over what several processes kept, one after the other."""
        every = list(states)
        for name, one in self.each.items():
            one.scorer.load(joined([state[name]["kept"] for state in every]))
            together = joined([state[name]["rows"] for state in every])
            one.losses, one.tolds, one.weights = Grown(), Grown(), Grown()
            one.losses.extend(together["loss"])
            one.tolds.extend(together["told"])
            one.weights.extend(together["weight"])


def scores_of(scorer: Scorer[Any], names: Collection[str]) -> dict[str, float]:
    """Some metrics of the rows as they are."""
    return {name: float(values[0]) for name, values in scorer.compute(names=names).items()}

"""Controls: what scores are worth, by those of simple methods on the same rows and of a model that sees other rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.forward import Forward
from sensorium.core.scorer import Scorer, plain_scores
from sensorium.evaluation.bootstrap import bounds, resample
from sensorium.model import Model

OTHER_ROWS = "inputs of other rows"
"""The control that gives the model the inputs of another row."""


@dataclass(frozen=True)
class Control:
    """The scores of a control on the same rows, for one task.

    Args:
        metrics: The value of every metric.
        gain: By metric, the 95 % paired bootstrap interval of the task's score minus the control's.
        beaten: Whether the task's headline metric is significantly better than the control's.
    """

    metrics: dict[str, float]
    gain: dict[str, tuple[float, float]]
    beaten: bool


class ControlAccumulator:
    """Accumulates the scores of the controls of every task over batches.

    Args:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        self.tasks = model.tasks
        self.shuffled = [name for name, task in model.tasks.items() if task.scored_shuffled]
        self.scorers: dict[str, dict[str, Scorer[Any]]] = {name: {} for name in model.tasks}

    def update(self, run: Forward, batch: Batch) -> None:
        """Add the outputs of the controls for ``batch``, which the pass ``run`` is of."""
        if self.shuffled and batch.rows > 1:
            other = Forward(run.model, batch.shuffled()).outputs
            for name in self.shuffled:
                self._add(name, OTHER_ROWS, other[name], batch)
        elif self.shuffled:
            for name in self.shuffled:
                self._add(name, OTHER_ROWS, run.outputs[name], batch)  # a row alone has no other
        for name, task in self.tasks.items():
            for rival, output in task.reference_outputs(run.outputs[name], batch).items():
                self._add(name, rival, output, batch)

    def _add(self, name: str, control: str, output: Any, batch: Batch) -> None:
        self.scorers[name].setdefault(control, self.tasks[name].scorer()).update(output, batch)

    def of(
        self, name: str, drawn: Mapping[str, Tensor], higher_is_better: bool, resamples: int, seed: int
    ) -> dict[str, Control]:
        """Return the controls of a task by name.

        Args:
            name: The task.
            drawn: Its metrics in each resample ``[R]``.
            higher_is_better: Whether larger values of its headline metric are better.
            resamples: Number of bootstrap resamples.
            seed: Seed of the resamples; with the same seed they are paired with ``drawn``.
        """
        controls = {}
        for control, scorer in self.scorers[name].items():
            behind = resample(scorer, resamples=resamples, seed=seed)
            head = self.tasks[name].headline
            gain = {metric: bounds(values - behind[metric]) for metric, values in drawn.items() if metric in behind}
            low, high = gain.get(head, (torch.nan, torch.nan))
            controls[control] = Control(plain_scores(scorer), gain, low > 0 if higher_is_better else high < 0)
        return controls

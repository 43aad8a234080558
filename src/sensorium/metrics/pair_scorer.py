"""A scorer that keeps the predictions and truths of all rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from sensorium.core.batch import Batch, Field
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import Task
from sensorium.metrics.weighting import Measure

Compare = Callable[[Any, Field], tuple[Tensor, Tensor]]


class PairScorer(Scorer[Any]):
    """Keeps predictions ``[rows, ...]`` and truths ``[rows, ...]``, and scores them by weighted measures.

    Args:
        task: The scored task.
        compare: Maps an output and the target field to predictions and truths (first axis ``B``).
        measures: By name, formulas as in ``metrics/classification.py``; the task's headline is put first.
        macro: The metrics that are averaged over classes.
    """

    def __init__(
        self, task: Task[Any], compare: Compare, measures: Mapping[str, Measure], macro: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.macro = frozenset(macro)
        self._target, self._compare = task.target, compare
        self.measures = dict(sorted(measures.items(), key=lambda item: (item[0] != task.headline, item[0])))

    def keep(self, output: Any, batch: Batch) -> Kept:
        target = self._target(batch)
        if target is None:
            return {"prediction": torch.zeros(0, 1), "truth": torch.zeros(0)}
        prediction, truth = self._compare(output, target)
        return {
            "prediction": prediction[target.present].detach().cpu(),
            "truth": truth[target.present].detach().cpu(),
        }

    @property
    def prediction(self) -> Tensor:
        """The predictions of all scored rows; empty if there are none."""
        prediction: Tensor = self.kept.get("prediction", torch.zeros(0, 1))
        return prediction

    @property
    def truth(self) -> Tensor:
        """The truths of all scored rows; empty if there are none."""
        truth: Tensor = self.kept.get("truth", torch.zeros(0))
        return truth

    @property
    def varied(self) -> bool:
        return bool((self.truth != self.truth[:1]).any())

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        chosen = {name: measure for name, measure in self.measures.items() if names is None or name in names}
        weights = self.ones() if weights is None else weights
        if self.rows == 0:
            return {name: weights.new_full((weights.shape[0],), torch.nan) for name in chosen}
        return {name: measure(self.prediction, self.truth, weights) for name, measure in chosen.items()}


def from_function(metric: Callable[[Tensor, Tensor], Tensor]) -> Measure:
    """Return a weighted measure from ``metric``, any function of predictions and truths such as a torchmetrics metric.

    Rows are repeated according to their weights, one resample at a time.
    """

    def measure(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        every = torch.arange(prediction.shape[0])
        drawn = (every.repeat_interleave(row.round().long()) for row in weight)
        return torch.stack([torch.as_tensor(metric(prediction[i], truth[i])).double() for i in drawn])

    return measure

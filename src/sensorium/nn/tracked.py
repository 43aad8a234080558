"""Measures as torchmetrics: gather rows over batches and ranks, then score them together. Costs seconds to import."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from sensorium.nn.measures import Measure


class Tracked(Metric):
    """One measure of all rows seen since the last reset; NaN where there were none.

    Args:
        measure: The weighted formula, a function of ``nn/measures.py`` or one of the same form.
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, measure: Measure) -> None:
        super().__init__()
        self.measure = measure
        self.predictions: list[Tensor] | Tensor
        self.truths: list[Tensor] | Tensor
        self.add_state("predictions", default=[], dist_reduce_fx="cat")
        self.add_state("truths", default=[], dist_reduce_fx="cat")

    @property
    def update_called(self) -> bool:
        """Always True: no row at all is a case like another here (NaN), not worth a warning."""
        return True

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        self.predictions = [*self.predictions, prediction.detach()]
        self.truths = [*self.truths, truth.detach()]

    def compute(self) -> Tensor:
        predictions, truths = _rows(self.predictions), _rows(self.truths)
        if predictions is None or truths is None or predictions.shape[0] == 0:
            return torch.tensor(torch.nan)
        # Float64 on the processor: not every accelerator has it, and the sums are small.
        weight = torch.ones(1, predictions.shape[0], dtype=torch.float64)
        return self.measure(predictions.cpu(), truths.cpu(), weight)[0].float()


def _rows(state: list[Tensor] | Tensor) -> Tensor | None:
    """All rows of a state, which is one tensor after ranks were joined and a list before."""
    parts = [state] if isinstance(state, Tensor) else list(state)
    return torch.cat(parts) if parts else None


def collection(measures: Mapping[str, Measure]) -> MetricCollection:
    """A collection that keeps the rows once for all its measures."""
    names = list(measures)
    return MetricCollection({name: Tracked(m) for name, m in measures.items()}, compute_groups=[names])

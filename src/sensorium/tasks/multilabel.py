"""Any number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.batch import Encoded, Field
from sensorium.core.contracts import Task
from sensorium.core.modality import Modality
from sensorium.core.registry import component
from sensorium.nn.decisions import merged_labels

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


@component
class Multilabel(Task[Tensor]):
    """Which of several labels a row bears: none, one or many, each with its own probability.

    Output: logits ``[B, K]``. Target: ``[B, K]`` of 0 and 1. Binary cross-entropy, the mean over labels.

    Args:
        hidden: Width of a hidden layer before the logits; 0 for none.
        dropout: Part of the features dropped in training, before the last layer.
        threshold: A label is given from this probability on.
    """

    predicts: ClassVar[tuple[str, ...]] = ("tags",)
    headline: ClassVar[str] = "f1_macro"

    def __init__(
        self, modality: Modality, dim: int, *, hidden: int = 0, dropout: float = 0.1, threshold: float = 0.5
    ) -> None:
        super().__init__(modality, dim)
        self.classes: list[str] = list(modality.classes)  # type: ignore[attr-defined]
        self.threshold = threshold
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        self.last = nn.Linear(hidden or dim, len(self.classes))
        self.body = nn.Sequential(*body, nn.Dropout(dropout))

    def fit(self, targets: Field) -> None:
        """Start from how often each label is given in the training rows."""
        with torch.no_grad():
            self.last.bias.copy_(self._rates(targets).logit())

    def _rates(self, targets: Field) -> Tensor:
        """How often each label is given ``[K]``, with one imagined row that bears it and one that does not."""
        given = targets.data[targets.present].to(self.last.bias)
        return (given.sum(dim=0) + 1) / (given.shape[0] + 2)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded]) -> Tensor:
        logits: Tensor = self.last(self.body(fused.pooled))
        return logits

    def merge(self, outputs: Sequence[Tensor], share: Tensor, *, vote: bool = False) -> Tensor:
        return merged_labels(torch.stack(list(outputs), dim=1), share, vote=vote, threshold=self.threshold)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        truth = target.data.to(output).nan_to_num(0.0).clamp(0, 1)
        return F.binary_cross_entropy_with_logits(output, truth, reduction="none").mean(dim=1)

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        return output.float().sigmoid(), target.data.float()

    def metrics(self) -> MetricCollection:
        from sensorium.nn import measures
        from sensorium.nn.tracked import collection

        return collection(
            {
                "f1_macro": partial(measures.label_f1_macro, threshold=self.threshold),
                "f1_micro": partial(measures.label_f1_micro, threshold=self.threshold),
                "accuracy": partial(measures.label_accuracy, threshold=self.threshold),
                "auroc": measures.label_auroc,
                "average_precision": measures.label_average_precision,
            }
        )

    def decode(self, output: Tensor) -> list[dict[str, Any]]:
        found = []
        for row in output.detach().float().sigmoid().cpu().tolist():
            chances = dict(zip(self.classes, row, strict=True))
            found.append({"value": [n for n, p in chances.items() if p >= self.threshold], "probabilities": chances})
        return found

    def baseline(self, training: Field, rows: int) -> Tensor:
        return self._rates(training).logit().expand(rows, -1)

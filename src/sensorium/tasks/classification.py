"""One of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.batch import Encoded, Field
from sensorium.core.contracts import Task
from sensorium.core.modality import Modality
from sensorium.core.registry import component
from sensorium.nn.classes import class_answers, class_index, class_measures, class_shares, class_weights
from sensorium.nn.decisions import merged_classes

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


@component
class Classification(Task[Tensor]):
    """Which one of several classes a row belongs to, with a probability for each.

    Output: logits ``[B, K]``. Target: class indices ``[B, 1]``. Cross-entropy, weighted by class where ``balance`` > 0.

    Args:
        hidden: Width of a hidden layer before the logits; 0 for none.
        dropout: Part of the features dropped in training, before the last layer.
        balance: 0 weighs all rows alike, 1 all classes alike, between is between.
        smoothing: Part of the target's certainty spread over all classes, against over-confidence.
    """

    predicts: ClassVar[tuple[str, ...]] = ("category",)
    headline: ClassVar[str] = "accuracy"

    def __init__(
        self,
        modality: Modality,
        dim: int,
        *,
        hidden: int = 0,
        dropout: float = 0.1,
        balance: float = 0.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(modality, dim)
        self.classes: list[str] = list(modality.classes)  # type: ignore[attr-defined]
        self.balance, self.smoothing = balance, smoothing
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        self.last = nn.Linear(hidden or dim, len(self.classes))
        self.body = nn.Sequential(*body, nn.Dropout(dropout))
        self.frequency: Tensor
        self.register_buffer("frequency", torch.full((len(self.classes),), 1 / max(1, len(self.classes))))

    def fit(self, targets: Field) -> None:
        """Learn the class shares of the training rows, and start from them: the first output is the prior."""
        self.frequency.copy_(class_shares(targets, len(self.classes)))
        with torch.no_grad():
            # The constant that minimises the weighted loss: shares times weights.
            self.last.bias.copy_((1 - self.balance) * self.frequency.log())

    @property
    def weights(self) -> Tensor:
        """The weight of each class in the loss ``[K]``, 1 on average over the training rows."""
        return class_weights(self.frequency, self.balance)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded]) -> Tensor:
        logits: Tensor = self.last(self.body(fused.pooled))
        return logits

    def merge(self, outputs: Sequence[Tensor], share: Tensor, *, vote: bool = False) -> Tensor:
        return merged_classes(torch.stack(list(outputs), dim=1), share, vote=vote)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        index = class_index(target, len(self.classes))
        plain = F.cross_entropy(output, index, label_smoothing=self.smoothing, reduction="none")
        return plain * self.weights[index]

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        return output.float().softmax(dim=1), class_index(target, len(self.classes))

    def metrics(self) -> MetricCollection:
        return class_measures()

    def decode(self, output: Tensor) -> list[dict[str, Any]]:
        return class_answers(output.detach().float().softmax(dim=1), self.classes)

    def baseline(self, training: Field, rows: int) -> Tensor:
        return class_shares(training, len(self.classes)).log().expand(rows, -1)

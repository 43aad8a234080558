"""Single-label classification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.expert import Response
from sensorium.core.goal import Goal
from sensorium.core.modality import Modality
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.classification import (
    chance_of,
    class_advice,
    class_answers,
    class_index,
    class_scorer,
    class_shares,
    class_views,
    class_weights,
)
from sensorium.heads.decision_fusion import merged_classes
from sensorium.metrics.pair_scorer import PairScorer


@component
class Classification(Task[Tensor]):
    """Single-label classification, with a probability for each class.

    Output: logits ``[B, K]``. Target: class indices ``[B, 1]``. Cross-entropy, weighted by class where ``balance`` > 0.

    Args:
        hidden: Width of a hidden layer before the logits; 0 for none.
        dropout: Dropout rate before the last layer.
        balance: Class weighting: 0 weights all rows equally, 1 all classes equally; values between interpolate.
        smoothing: Label smoothing: share of the target's probability spread over all classes.
    """

    predicts: ClassVar[tuple[str, ...]] = ("category", "ordinal")
    headline: ClassVar[str] = "accuracy"
    baseline_name: ClassVar[str] = "always predicting the most frequent class of the training rows"

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        hidden: int = 0,
        dropout: float = 0.1,
        balance: float = 0.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(goal, dim)
        self.classes = list(goal.modality.classes)
        self.balance, self.smoothing = balance, smoothing
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        self.last = nn.Linear(hidden or dim, len(self.classes))
        self.body = nn.Sequential(*body, nn.Dropout(dropout))
        self.frequency: Tensor
        self.register_buffer("frequency", torch.full((len(self.classes),), 1 / max(1, len(self.classes))))

    def fit(self, targets: Iterable[Field]) -> None:
        """Learn the class shares from ``targets`` and initialise the bias so that the first output is the prior."""
        self.frequency.copy_(class_shares(targets, len(self.classes)))
        with torch.no_grad():
            # The constant output that minimises the weighted loss.
            self.last.bias.copy_((1 - self.balance) * self.frequency.log())

    @property
    def weights(self) -> Tensor:
        """The weight of each class in the loss ``[K]``, 1 on average over the training rows."""
        return class_weights(self.frequency, self.balance)

    @classmethod
    def recommended(
        cls, options: Mapping[str, Any], rows: int, counts: Sequence[int], targets: Sequence[Modality] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        return class_advice(options, rows, counts)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.classes)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        logits: Tensor = self.last(self.body(fused.pooled))
        return logits

    def merge(self, outputs: Sequence[Tensor], share: Tensor, *, vote: bool = False) -> Tensor:
        return merged_classes(torch.stack(list(outputs), dim=1), share, vote=vote)

    @property
    def response(self) -> Response:
        return Response("classes", len(self.classes), tuple(self.weights.tolist()))

    def scale_confidence(self, output: Tensor, factor: Tensor) -> Tensor:
        return (output * factor).log_softmax(dim=1)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        index = class_index(target, len(self.classes))
        plain = F.cross_entropy(output, index, label_smoothing=self.smoothing, reduction="none")
        return plain * self.weights[index]

    def reported_loss(self, output: Tensor, target: Field) -> Tensor:
        return F.cross_entropy(output, class_index(target, len(self.classes)), reduction="none")

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        """Return probabilities ``[B, K]`` of ``output`` and class indices ``[B]`` of ``target``."""
        return output.float().softmax(dim=1), class_index(target, len(self.classes))

    def scorer(self) -> Scorer[Tensor]:
        return class_scorer(self, self.compare)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        return class_answers(output.detach().float().softmax(dim=1), self.classes, self.value)

    def value(self, index: int) -> object:
        """Return the class ``index`` as written in the training table."""
        return self.goal.modality.decode(np.array([index]))

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        return chance_of(output.float().softmax(dim=1), of)

    def question(self, of: Tensor) -> list[str]:
        return [f"probability of {self.classes[k]}" for k in of.argmax(dim=1).tolist()]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        return class_views(scorer, self.classes, self.goal.name) if isinstance(scorer, PairScorer) else []

    def baseline(self, targets: Iterable[Field]) -> list[list[float]]:
        logits: list[list[float]] = [class_shares(targets, len(self.classes)).log().tolist()]
        return logits

    def constant(self, baseline: list[list[float]], rows: int) -> Tensor:
        return torch.tensor(baseline).expand(rows, -1)

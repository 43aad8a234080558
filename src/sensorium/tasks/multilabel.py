"""Multi-label classification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.expert import Response
from sensorium.core.goal import Goal
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.classification import chance_of, class_limits, class_table
from sensorium.heads.decision_fusion import merged_labels
from sensorium.metrics import multilabel
from sensorium.metrics.class_tables import per_label
from sensorium.metrics.pair_scorer import PairScorer


@component
class Multilabel(Task[Tensor]):
    """Multi-label classification: any number of labels per row, each with its own probability.

    Output: logits ``[B, K]``. Target: ``[B, K]`` of 0 and 1. Binary cross-entropy, the mean over labels.

    Args:
        hidden: Width of a hidden layer before the logits; 0 for none.
        dropout: Dropout rate before the last layer.
        threshold: Probability from which a label is predicted.
    """

    predicts: ClassVar[tuple[str, ...]] = ("tags",)
    headline: ClassVar[str] = "f1_macro"
    baseline_name: ClassVar[str] = "predicting the frequency of each label in the training rows"

    def __init__(self, goal: Goal, dim: int, *, hidden: int = 0, dropout: float = 0.1, threshold: float = 0.5) -> None:
        super().__init__(goal, dim)
        self.classes = list(goal.modality.classes)
        self.threshold = threshold
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        self.last = nn.Linear(hidden or dim, len(self.classes))
        self.body = nn.Sequential(*body, nn.Dropout(dropout))

    def fit(self, targets: Iterable[Field]) -> None:
        """Initialise the bias from the label frequencies in ``targets``."""
        with torch.no_grad():
            self.last.bias.copy_(self._rates(targets).logit())

    def _rates(self, targets: Iterable[Field]) -> Tensor:
        """The frequency of each label ``[K]``, with add-one smoothing."""
        known = torch.cat([part.data[part.present] for part in targets]).to(self.last.bias)
        return (known.sum(dim=0) + 1) / (known.shape[0] + 2)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.classes)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        logits: Tensor = self.last(self.body(fused.pooled))
        return logits

    def merge(self, outputs: Sequence[Tensor], share: Tensor, *, vote: bool = False) -> Tensor:
        return merged_labels(torch.stack(list(outputs), dim=1), share, vote=vote, threshold=self.threshold)

    @property
    def response(self) -> Response:
        return Response("labels", len(self.classes))

    def scale_confidence(self, output: Tensor, factor: Tensor) -> Tensor:
        return output * factor

    def loss(self, output: Tensor, target: Field) -> Tensor:
        truth = target.data.to(output).nan_to_num(0.0).clamp(0, 1)
        return F.binary_cross_entropy_with_logits(output, truth, reduction="none").mean(dim=1)

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        """Return probabilities ``[B, K]`` of ``output`` and truths ``[B, K]`` of ``target``."""
        return output.float().sigmoid(), target.data.float()

    def scorer(self) -> Scorer[Tensor]:
        return PairScorer(
            self,
            self.compare,
            {
                "f1_macro": partial(multilabel.label_f1_macro, threshold=self.threshold),
                "f1_micro": partial(multilabel.label_f1_micro, threshold=self.threshold),
                "accuracy": partial(multilabel.label_accuracy, threshold=self.threshold),
                "auroc": multilabel.label_auroc,
                "average_precision": multilabel.label_average_precision,
            },
            macro=("f1_macro", "auroc", "average_precision"),
        )

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        answers: list[Answer] = []
        for row in output.detach().float().sigmoid().cpu().tolist():
            chances = dict(zip(self.classes, row, strict=True))
            answers.append({"value": [n for n, p in chances.items() if p >= self.threshold], "probabilities": chances})
        return answers

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        """Return the probability of the most likely label of ``of``."""
        return chance_of(output.float().sigmoid(), of)

    def question(self, of: Tensor) -> list[str]:
        return [f"probability of {self.classes[k]}" for k in of.argmax(dim=1).tolist()]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        if not isinstance(scorer, PairScorer) or scorer.rows == 0:
            return []
        each = per_label(scorer.prediction, scorer.truth, self.classes, self.threshold)
        return [class_table(each), *class_limits(each, self.goal.name)]

    def baseline(self, targets: Iterable[Field]) -> list[list[float]]:
        logits: list[list[float]] = [self._rates(targets).logit().tolist()]
        return logits

    def constant(self, baseline: list[list[float]], rows: int) -> Tensor:
        return torch.tensor(baseline).expand(rows, -1)

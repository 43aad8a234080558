"""Ordinal classification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core import quoting
from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.expert import Response
from sensorium.core.goal import Goal
from sensorium.core.modality import Modality
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.classification import (
    class_advice,
    class_answers,
    class_index,
    class_shares,
    class_views,
    class_weights,
    macro_of,
)
from sensorium.heads.decision_fusion import merged_classes
from sensorium.heads.ordinal import cumulative_link, cut_points, decided, on_decision, quadratic_kappa, steps_off
from sensorium.metrics import classification
from sensorium.metrics.pair_scorer import PairScorer

DECIDED = {
    "qwk": quadratic_kappa,
    "mae": steps_off,
    "accuracy": classification.accuracy,
    "balanced_accuracy": classification.balanced_accuracy,
    "precision": classification.precision,
    "recall": classification.recall,
    "f1": classification.f1,
}
"""Metrics of the predicted class."""
CHANCES = {name: getattr(classification, name) for name in ("auroc", "log_loss", "calibration_error")}
"""Metrics of the probabilities."""


@component
class Ordinal(Task[Tensor]):
    """Ordinal classification: one of several ordered classes, such as stars, grades or stages.

    One score with increasing cut points (proportional odds), so errors of one class cost less than errors of three, and
    rare classes borrow strength from their neighbours. Use it for classes on one scale, otherwise ``classification``. The
    order is numeric, or that of the column (``order`` of the kind ``ordinal``).

    Output: log class probabilities ``[B, K]``. Target: class indices ``[B, 1]``.
    Source: McCullagh, Regression Models for Ordinal Data, https://doi.org/10.1111/j.2517-6161.1980.tb01109.x.

    Args:
        hidden: Width of a hidden layer before the score; 0 for none.
        dropout: Dropout rate before the last layer.
        balance: Class weighting: 0 weights all rows equally, 1 all classes equally; values between interpolate.
        smoothing: Label smoothing: share of the target's probability given to the neighbouring classes.
        decide: The predicted class: ``likeliest`` maximises accuracy, ``median`` minimises the mean absolute distance,
            ``mean`` (the class nearest to it) the mean squared distance.
    """

    predicts: ClassVar[tuple[str, ...]] = ("ordinal", "category")
    headline: ClassVar[str] = "qwk"
    baseline_name: ClassVar[str] = "predicting the class frequencies of the training rows"

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        hidden: int = 0,
        dropout: float = 0.1,
        balance: float = 0.0,
        smoothing: float = 0.0,
        decide: Literal["likeliest", "median", "mean"] = "likeliest",
    ) -> None:
        super().__init__(goal, dim)
        self.classes = list(goal.modality.classes)
        if not goal.modality.in_order:
            raise ConfigError(
                f"task {goal.name!r}: the classes are not numbers and their order is unknown",
                fix=quoting.as_kind(
                    next(iter(goal.targets)), f'{{kind: ordinal, order: "{", ".join(self.classes[:3])}, ..."}}'
                ),
            )
        self.balance, self.smoothing, self.decide = balance, smoothing, decide
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        # The cut points take the place of a bias.
        self.last = nn.Linear(hidden or dim, 1, bias=False)
        self.body = nn.Sequential(*body, nn.Dropout(dropout))
        size = len(self.classes)
        self.first = nn.Parameter(torch.zeros(min(1, max(0, size - 1))))
        self.gaps = nn.Parameter(torch.zeros(max(0, size - 2)))
        self.frequency: Tensor
        self.register_buffer("frequency", torch.full((size,), 1 / max(1, size)))

    @property
    def cuts(self) -> Tensor:
        """The increasing cut points between classes ``[K - 1]``."""
        # The minimum gap keeps the probability of the class between two cuts above 0.
        return torch.cat([self.first, self.first + (F.softplus(self.gaps) + 1e-4).cumsum(dim=0)])

    def fit(self, targets: Iterable[Field]) -> None:
        """Learn the class shares from ``targets`` and initialise the cuts so that the first output is the prior."""
        self.frequency.copy_(class_shares(targets, len(self.classes)))
        # The constant output that minimises the weighted loss.
        wanted = self.frequency.pow(1 - self.balance)
        cuts = cut_points((wanted / wanted.sum()).double())
        with torch.no_grad():
            self.first.copy_(cuts[:1])
            self.gaps.copy_((cuts.diff() - 1e-4).clamp_min(1e-4).expm1().log())

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
        return cumulative_link(self.last(self.body(fused.pooled)), self.cuts)

    def merge(self, outputs: Sequence[Tensor], share: Tensor, *, vote: bool = False) -> Tensor:
        return merged_classes(torch.stack(list(outputs), dim=1), share, vote=vote)

    @property
    def response(self) -> Response:
        return Response("ordered", len(self.classes), tuple(self.weights.tolist()))

    def scale_confidence(self, output: Tensor, factor: Tensor) -> Tensor:
        return (output * factor).log_softmax(dim=1)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        index = class_index(target, len(self.classes))
        wanted = self._softened.to(output)[index]
        # The clamp keeps the loss finite for classes with probability 0.
        return -(wanted * output.clamp_min(-1e4)).sum(dim=1) * self.weights[index]

    def reported_loss(self, output: Tensor, target: Field) -> Tensor:
        index = class_index(target, len(self.classes))
        return -output.clamp_min(-1e4).gather(1, index[:, None])[:, 0]

    @property
    def _softened(self) -> Tensor:
        """The smoothed target distribution of each class ``[K, K]``."""
        size = len(self.classes)
        near = torch.diag(torch.ones(max(0, size - 1)), 1)
        near = near + near.T
        part = self.smoothing if size > 1 else 0.0
        return (1 - part) * torch.eye(size) + part * near / near.sum(dim=1, keepdim=True).clamp_min(1)

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        """Return probabilities ``[B, K]`` of ``output`` and class indices ``[B]`` of ``target``."""
        return output.float().softmax(dim=1), class_index(target, len(self.classes))

    def scorer(self) -> Scorer[Tensor]:
        of_answers = {name: on_decision(measure, self.decide) for name, measure in DECIDED.items()}
        return PairScorer(self, self.compare, of_answers | CHANCES, macro_of(self.classes))

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        chances = output.detach().float().softmax(dim=1)
        return class_answers(chances, self.classes, self.value, decided(chances, self.decide))

    def value(self, index: int) -> object:
        """Return the class ``index`` as written in the training table."""
        return self.goal.modality.decode(np.array([index]))

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        chances, index = output.float().softmax(dim=1), self._answered(of)
        return chances.gather(1, index[:, None].expand(chances.shape[0], 1))[:, 0]

    def question(self, of: Tensor) -> list[str]:
        return [f"probability of {self.classes[k]}" for k in self._answered(of).tolist()]

    def _answered(self, output: Tensor) -> Tensor:
        return decided(output.detach().float().softmax(dim=1), self.decide)

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        if not isinstance(scorer, PairScorer) or scorer.rows == 0:
            return []
        return class_views(scorer, self.classes, self.goal.name, decided(scorer.prediction, self.decide))

    def baseline(self, targets: Iterable[Field]) -> list[list[float]]:
        logits: list[list[float]] = [class_shares(targets, len(self.classes)).log().tolist()]
        return logits

    def constant(self, baseline: list[list[float]], rows: int) -> Tensor:
        return torch.tensor(baseline).expand(rows, -1)

"""Classification by a support vector machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import EncodedRows, Task
from sensorium.heads.classification import (
    chance_of,
    class_answers,
    class_index,
    class_scorer,
    class_shares,
    class_views,
    class_weights,
)
from sensorium.heads.decision_fusion import merged_classes
from sensorium.heads.support_vectors import SupportVectors
from sensorium.metrics.pair_scorer import PairScorer

SCALES = torch.logspace(-2, 2, 81)
"""Candidate slopes from decision values to logits."""


@component
class Svm(Task[Tensor]):
    """Classification by a support vector machine on the fused vector.

    During training of the network, a linear layer with the hinge loss of Crammer and Singer takes its place. Afterwards,
    with the network frozen, scikit-learn fits the machine to the fused vectors of the training rows, and the slope from
    decision values to logits is fitted to the held-out rows. It is saved as tensors and predicts without scikit-learn. Use
    it for few rows and classes that are not linearly separable; otherwise ``classification`` is simpler and as good.

    Output: decision values ``[B, K]`` as in scikit-learn (``rbf``: ``SVC``, one-vs-one aggregated by class; ``linear``:
    ``LinearSVC``, one-vs-rest). Target: class indices ``[B, 1]``.
    Source: Crammer and Singer 2001, https://www.jmlr.org/papers/v2/crammer01a.html; probabilities by one slope, Guo et al.
    2017, https://arxiv.org/abs/1706.04599.

    Args:
        kernel: ``rbf`` for non-linear boundaries, ``linear`` for linear ones (any number of rows).
        C: Penalty of margin violations: large values fit the training rows closely, small ones regularise.
        gamma: Coefficient of the RBF kernel; none: 1 / width of the vector (features are standardised).
        vectors: With ``rbf``, the maximum number of rows to fit; larger training sets are subsampled by class.
        dropout: Dropout rate during training of the network.
        balance: Class weighting: 0 weights all rows equally, 1 all classes equally; values between interpolate.
    """

    predicts: ClassVar[tuple[str, ...]] = ("category", "ordinal")
    headline: ClassVar[str] = "accuracy"
    baseline_name: ClassVar[str] = "always predicting the most frequent class of the training rows"

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        kernel: Literal["rbf", "linear"] = "rbf",
        C: float = 1.0,
        gamma: float | None = None,
        vectors: int = 2000,
        dropout: float = 0.1,
        balance: float = 0.0,
    ) -> None:
        super().__init__(goal, dim)
        for name, value in (("C", C), ("gamma", 1.0 if gamma is None else gamma), ("vectors", vectors)):
            if value <= 0:
                raise ConfigError(f"svm: {name} is {value}", fix="give a number above 0")
        self.classes = list(goal.modality.classes)
        count = max(1, len(self.classes))
        self.kernel, self.C, self.gamma, self.balance = kernel, C, gamma or 1 / dim, balance
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(dim, len(self.classes))
        self.machine = SupportVectors(dim, len(self.classes), vectors, self.gamma) if kernel == "rbf" else None
        self.frequency: Tensor
        self.slope: Tensor
        self.register_buffer("frequency", torch.full((len(self.classes),), 1 / count))
        self.register_buffer("slope", torch.ones(()))

    def fit(self, targets: Iterable[Field]) -> None:
        """Learn the class shares from ``targets``."""
        self.frequency.copy_(class_shares(targets, len(self.classes)))

    @property
    def weights(self) -> Tensor:
        """The weight of each class ``[K]``, 1 on average over the training rows."""
        return class_weights(self.frequency, self.balance)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.classes)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        decision: Tensor = self.last(self.drop(fused.pooled))
        if self.machine is not None and not self.training:
            decision = torch.where(self.machine.fitted, self.machine(fused.pooled), decision)
        # Rows without any stream get the class shares, since the machine was not fitted on such rows.
        return torch.where(fused.present.unsqueeze(1), decision, self.frequency.log() / self.slope)

    def merge(self, outputs: Sequence[Tensor], share: Tensor, *, vote: bool = False) -> Tensor:
        logits = torch.stack(list(outputs), dim=1) * self.slope
        return merged_classes(logits, share, vote=vote) / self.slope

    def loss(self, output: Tensor, target: Field) -> Tensor:
        return self.reported_loss(output, target) * self.weights[class_index(target, len(self.classes))]

    def reported_loss(self, output: Tensor, target: Field) -> Tensor:
        index = class_index(target, len(self.classes))
        own = output.gather(1, index[:, None])
        margin = (output - own + 1).scatter(1, index[:, None], 0.0)
        return margin.amax(dim=1)

    def fit_after_training(self, training: EncodedRows, held_out: EncodedRows) -> None:
        """Fit the machine to the ``training`` rows, and the slope of its probabilities to the ``held_out`` rows."""
        from sklearn.svm import SVC, LinearSVC

        features, index, weight = self._rows(training)
        if len(set(index.tolist())) < 2:
            return  # a single class: the layer's output is kept
        chosen = self._drawn(index) if self.machine is not None else torch.arange(len(index))
        features, index, weight = features[chosen], index[chosen], weight[chosen]
        middle, spread = features.mean(dim=0), features.std(dim=0, correction=0)
        # Standardising a nearly constant feature would amplify noise.
        spread = torch.where(spread > 1e-6 * spread.max(), spread, spread.max().clamp(min=1e-12))
        scaled = ((features - middle) / spread).numpy()
        if self.machine is not None:
            svc = SVC(C=self.C, kernel="rbf", gamma=self.gamma, decision_function_shape="ovr")
            svc.fit(scaled, index.numpy(), sample_weight=weight.numpy())
            self.machine.adopt(svc, middle, spread)
        else:
            linear = LinearSVC(C=self.C, dual=False, max_iter=10_000)
            linear.fit(scaled, index.numpy(), sample_weight=weight.numpy())
            self._adopt(linear, middle, spread)
        self._calibrate(held_out)

    @staticmethod
    def _known(seen: EncodedRows) -> Tensor:
        return seen.fused.present & seen.target.present & (seen.weight > 0)

    def _rows(self, seen: EncodedRows) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors ``[n, D]``, classes and weights of the rows with a stream and a target; floats in float64."""
        known = self._known(seen)
        index = class_index(seen.target, len(self.classes))[known]
        weight = seen.weight[known].double() * self.weights[index].double()
        return seen.fused.pooled[known].double(), index, weight

    def _drawn(self, index: Tensor) -> Tensor:
        """A fixed stratified sample of at most as many rows as the machine can hold."""
        assert self.machine is not None
        room = self.machine.vectors.shape[0]
        if len(index) <= room:
            return torch.arange(len(index))
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
        # The rank of each row within its class as a share of the class, so that one cut-off samples all classes equally.
        one_hot = nn.functional.one_hot(index[order], len(self.classes))
        place = (one_hot.cumsum(dim=0) * one_hot).sum(dim=1)
        share = (place - 0.5) / one_hot.sum(dim=0)[index[order]]
        return order[share.argsort(stable=True)[:room]].sort().values

    @torch.no_grad()
    def _adopt(self, linear: Any, middle: Tensor, spread: Tensor) -> None:
        """The planes of ``LinearSVC``, standardisation included, as the layer's weights."""
        planes, bias = torch.as_tensor(linear.coef_), torch.as_tensor(linear.intercept_)
        if planes.shape[0] == 1:  # two classes have a single plane
            planes, bias = torch.cat([-planes, planes]), torch.cat([-bias, bias])
        planes = planes / spread
        bias = bias - planes @ middle
        places = torch.as_tensor(linear.classes_)
        # Classes without training rows are never predicted.
        self.last.weight.zero_()
        self.last.bias.fill_(-1e3)
        self.last.weight[places] = planes.to(self.last.weight)
        self.last.bias[places] = bias.to(self.last.bias)

    @torch.no_grad()
    def _calibrate(self, seen: EncodedRows) -> None:
        known = self._known(seen)
        _, index, weight = self._rows(seen)
        if not len(index):
            return
        before = self.training
        output = self.eval()(seen.fused.map(lambda t: t[known]), {}, {}).double()
        self.train(before)
        chances = (output * SCALES.double()[:, None, None]).log_softmax(dim=2)  # [scales, B, K]
        likelihood = (chances.gather(2, index.expand(len(SCALES), -1).unsqueeze(2))[:, :, 0] * weight).sum(dim=1)
        self.slope.copy_(SCALES[likelihood.argmax()])

    def _chances(self, output: Tensor) -> Tensor:
        return (output.float() * self.slope).softmax(dim=1)

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        """Return probabilities ``[B, K]`` of ``output`` and class indices ``[B]`` of ``target``."""
        return self._chances(output), class_index(target, len(self.classes))

    def scorer(self) -> Scorer[Tensor]:
        return class_scorer(self, self.compare)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        return class_answers(self._chances(output.detach()), self.classes, self.value)

    def value(self, index: int) -> object:
        """Return the class ``index`` as written in the training table."""
        return self.goal.modality.decode(np.array([index]))

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        return chance_of(self._chances(output), of)

    def question(self, of: Tensor) -> list[str]:
        return [f"probability of {self.classes[k]}" for k in of.argmax(dim=1).tolist()]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        return class_views(scorer, self.classes, self.goal.name) if isinstance(scorer, PairScorer) else []

    def baseline(self, targets: Iterable[Field]) -> list[list[float]]:
        margins: list[list[float]] = [(class_shares(targets, len(self.classes)).log() / self.slope.cpu()).tolist()]
        return margins

    def constant(self, baseline: list[list[float]], rows: int) -> Tensor:
        return torch.tensor(baseline).expand(rows, -1)

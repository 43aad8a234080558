"""Regression."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

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
from sensorium.core.report_views import Scatter, View
from sensorium.core.scorer import Scorer
from sensorium.core.task import EncodedRows, Task
from sensorium.heads.decision_fusion import merged_numbers
from sensorium.metrics import regression
from sensorium.metrics.pair_scorer import PairScorer

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

FEW = 20
"""Minimum number of held-out rows for the smearing factor."""
MOST = math.log(5.0)
"""The logarithm of the largest smearing factor, and of the smallest below 1."""
LARGEST = 700.0
"""The largest logarithm of a float64, nearly."""


@component
class Regression(Task[Tensor]):
    """Regression: one number per row, trained on a standardised scale and scored on the original one.

    For logarithmic columns (``scale: log``), ``mse`` estimates the mean logarithm, that is the median of the numbers.
    Predictions are therefore multiplied by the mean of ``exp(residual)`` over the validation rows to estimate the mean
    (smearing: Duan 1983, https://doi.org/10.1080/01621459.1983.10478017).

    Output: ``[B, 1]`` in standard deviations from the training mean. Target: the same, ``[B, 1]``.

    Args:
        hidden: Width of a hidden layer before the output; 0 for none.
        dropout: Dropout rate before the last layer.
        loss: ``mse`` estimates the mean, ``mae`` the median; ``huber`` lies between and is robust to outliers.
    """

    predicts: ClassVar[tuple[str, ...]] = ("number",)
    headline: ClassVar[str] = "mae"
    baseline_name: ClassVar[str] = "always predicting the median of the training rows"
    higher_is_better: ClassVar[bool] = False

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        hidden: int = 0,
        dropout: float = 0.1,
        loss: Literal["mse", "mae", "huber"] = "mse",
    ) -> None:
        super().__init__(goal, dim)
        self.penalty = LOSSES[loss]
        self.smears = goal.modality.logarithmic and loss == "mse"
        self.smear: Tensor
        if self.smears:
            self.register_buffer("smear", torch.ones(()))
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        self.last = nn.Linear(hidden or dim, 1)
        self.body = nn.Sequential(*body, nn.Dropout(dropout))

    @classmethod
    def recommended(
        cls, options: Mapping[str, Any], rows: int, counts: Sequence[int], targets: Sequence[Modality] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        why = [target.heavy_tails for target in targets if target.heavy_tails]
        if not why or "loss" in options:
            return {}, []
        return {"loss": "huber"}, [f"a loss robust to outliers (loss: huber): {why[0]}"]

    def fit(self, targets: Iterable[Field]) -> None:
        """Initialise the bias from the mean of ``targets``."""
        with torch.no_grad():
            self.last.bias.copy_(self._known(targets).mean(dim=0))

    def _known(self, targets: Iterable[Field]) -> Tensor:
        """The known targets ``[rows, 1]``; a single zero if there are none."""
        known = torch.cat([part.data[part.present] for part in targets]).to(self.last.bias)
        return known if known.shape[0] else known.new_zeros(1, 1)

    def fit_after_training(self, training: EncodedRows, held_out: EncodedRows) -> None:
        if self.smears:
            with torch.no_grad():
                output = self(held_out.fused, held_out.streams, held_out.prompts)
            self.correct(output, held_out.target, held_out.weight)

    @property
    def fits_after_training(self) -> bool:
        return self.smears

    @torch.no_grad()
    def correct(self, output: Tensor, target: Field, weight: Tensor) -> None:
        """Set the smearing factor from ``output``, ``target`` and ``weight`` of held-out rows; 1 if there are too few."""
        known = target.present & (weight > 0)
        if not self.smears:
            return
        self.smear.fill_(1.0)
        if int(known.sum()) >= FEW:
            wrong = (target.data.to(output) - output)[known, 0].double() * self._step
            mean = torch.logsumexp(wrong + weight[known].double().log(), 0) - weight[known].double().sum().log()
            # The clamp keeps a single outlier from scaling all predictions.
            self.smear.copy_(mean.clamp(-MOST, MOST).exp())

    @property
    def _step(self) -> float:
        """The change in the logarithm of the number for a unit step of the output."""
        zero, one = (float(self.goal.modality.decode(np.array([x]))) for x in (0.0, 1.0))
        return math.log(one / zero)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        output: Tensor = self.last(self.body(fused.pooled))
        return output

    def merge(self, outputs: Sequence[Tensor], share: Tensor, *, vote: bool = False) -> Tensor:
        return merged_numbers(torch.stack(list(outputs), dim=1), share, vote=vote)

    @property
    def response(self) -> Response:
        return Response("number", 1)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        wrong: Tensor = self.penalty(output, target.data.to(output).nan_to_num(0.0), reduction="none")
        return wrong[:, 0]

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        """Return the predictions ``[B]`` of ``output`` and the true values ``[B]`` of ``target``, on the original scale."""
        return self._answered(output), self._scaled(target.data)

    def _answered(self, output: Tensor) -> Tensor:
        """Predictions on the original scale ``[B]``."""
        return self._scaled(output) * self.smear if self.smears else self._scaled(output)

    def _scaled(self, value: Tensor) -> Tensor:
        """Standardised values ``[B, 1]`` on the original scale ``[B]``, in float64 where supported as they may be large."""
        exact = torch.float32 if value.device.type == "mps" else torch.float64
        numbers = [float(self.goal.modality.decode(row)) for row in value.detach().float().cpu().numpy()]
        return torch.tensor(numbers, dtype=exact, device=value.device)

    def scorer(self) -> Scorer[Tensor]:
        each = {"mae": regression.mae, "rmse": regression.rmse, "r2": regression.r2, "pearson": regression.pearson}
        return PairScorer(self, self.compare, each)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        return [{"value": value} for value in self._answered(output).tolist()]

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        """Return the prediction on the original scale with gradients (a linear or exponential map of the output)."""
        if self.goal.modality.logarithmic:
            start = math.log(float(self.goal.modality.decode(np.array([0.0]))))
            number = (output[:, 0].double() * self._step + start).clamp(-LARGEST, LARGEST).exp()
            return number * self.smear if self.smears else number
        zero, one = (float(self.goal.modality.decode(np.array([x]))) for x in (0.0, 1.0))
        return output[:, 0].double() * (one - zero) + zero

    def question(self, of: Tensor) -> list[str]:
        return ["value"] * of.shape[0]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        if not isinstance(scorer, PairScorer) or scorer.rows == 0:
            return []
        note = "Each dot is a row; on the dashed line the prediction equals the true value."
        answered, true = scorer.prediction.tolist(), scorer.truth.tolist()
        return [Scatter("numbers", "Predicted and true", note, true=true, answered=answered)]

    def baseline(self, targets: Iterable[Field]) -> list[list[float]]:
        """Return the median of ``targets``, the constant with the least mean absolute error."""
        medians: list[list[float]] = [self._known(targets).median(dim=0).values.tolist()]
        return medians

    def constant(self, baseline: list[list[float]], rows: int) -> Tensor:
        # Predictions are multiplied by the smearing factor, so it is divided out of the median first.
        less = math.log(float(self.smear)) / self._step if self.smears else 0.0
        return (torch.tensor(baseline) - less).expand(rows, 1)

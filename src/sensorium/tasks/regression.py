"""A number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.contracts import Task
from sensorium.core.expert import Response
from sensorium.core.goal import Goal
from sensorium.core.registry import component
from sensorium.core.scorer import Scorer
from sensorium.core.views import Scatter, View
from sensorium.nn import measures
from sensorium.nn.decisions import merged_numbers
from sensorium.nn.pairs import Pairs

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


@component
class Regression(Task[Tensor]):
    """How much: one number a row, learnt on a standardised scale and scored on its own.

    Output: ``[B, 1]`` in standard deviations from the training mean. Target: the same, ``[B, 1]``.

    Args:
        hidden: Width of a hidden layer before the output; 0 for none.
        dropout: Part of the features dropped in training, before the last layer.
        loss: ``mse`` aims at the mean, ``mae`` at the median, ``huber`` between: large errors pull less.
    """

    predicts: ClassVar[tuple[str, ...]] = ("number",)
    headline: ClassVar[str] = "mae"
    nothing: ClassVar[str] = "always answering the same number"
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
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        self.last = nn.Linear(hidden or dim, 1)
        self.body = nn.Sequential(*body, nn.Dropout(dropout))

    def fit(self, targets: Iterable[Field]) -> None:
        """Start from the mean of the training targets."""
        with torch.no_grad():
            self.last.bias.copy_(self._known(targets).mean(dim=0))

    def _known(self, targets: Iterable[Field]) -> Tensor:
        """The targets that are there ``[rows, 1]``; a zero where none is."""
        known = torch.cat([part.data[part.present] for part in targets]).to(self.last.bias)
        return known if known.shape[0] else known.new_zeros(1, 1)

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
        """Numbers of the table ``[B]``, answered and true."""
        return self._scaled(output), self._scaled(target.data)

    def _scaled(self, value: Tensor) -> Tensor:
        """Standardised ``[B, 1]`` as numbers of the table ``[B]``, float64 where there is such: they may be large."""
        exact = torch.float32 if value.device.type == "mps" else torch.float64
        numbers = [float(self.goal.modality.decode(row)) for row in value.detach().float().cpu().numpy()]
        return torch.tensor(numbers, dtype=exact, device=value.device)

    def scorer(self) -> Scorer[Tensor]:
        each = {"mae": measures.mae, "rmse": measures.rmse, "r2": measures.r2, "pearson": measures.pearson}
        return Pairs(self, self.compare, each)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        return [{"value": value} for value in self._scaled(output).tolist()]

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        """The number itself, with gradients: the way from standardised to the table's numbers is a straight line."""
        zero, one = (float(self.goal.modality.decode(np.array([x]))) for x in (0.0, 1.0))
        return output[:, 0].double() * (one - zero) + zero

    def question(self, of: Tensor) -> list[str]:
        return ["value"] * of.shape[0]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        if not isinstance(scorer, Pairs) or scorer.rows == 0:
            return []
        note = "Each dot is a row; on the dashed line the prediction is right."
        answered, true = scorer.prediction.tolist(), scorer.truth.tolist()
        return [Scatter("numbers", "Predicted and true", note, true=true, answered=answered)]

    def baseline(self, targets: Iterable[Field]) -> list[list[float]]:
        """The median: of all constants it has the least mean absolute error, and no outlier moves it."""
        found: list[list[float]] = [self._known(targets).median(dim=0).values.tolist()]
        return found

    def constant(self, baseline: list[list[float]], rows: int) -> Tensor:
        return torch.tensor(baseline).expand(rows, 1)

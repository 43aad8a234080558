"""A number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.batch import Encoded, Field
from sensorium.core.contracts import Task
from sensorium.core.modality import Modality
from sensorium.core.registry import component
from sensorium.nn.decisions import merged_numbers

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

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
    higher_is_better: ClassVar[bool] = False

    def __init__(
        self,
        modality: Modality,
        dim: int,
        *,
        hidden: int = 0,
        dropout: float = 0.1,
        loss: Literal["mse", "mae", "huber"] = "mse",
    ) -> None:
        super().__init__(modality, dim)
        self.penalty = LOSSES[loss]
        body = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        self.last = nn.Linear(hidden or dim, 1)
        self.body = nn.Sequential(*body, nn.Dropout(dropout))

    def fit(self, targets: Field) -> None:
        """Start from the mean of the training targets."""
        with torch.no_grad():
            self.last.bias.copy_(self._mean(targets))

    def _mean(self, targets: Field) -> Tensor:
        known = targets.data[targets.present].to(self.last.bias)
        return known.mean(dim=0) if known.shape[0] else torch.zeros_like(self.last.bias)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded]) -> Tensor:
        output: Tensor = self.last(self.body(fused.pooled))
        return output

    def merge(self, outputs: Sequence[Tensor], share: Tensor, *, vote: bool = False) -> Tensor:
        return merged_numbers(torch.stack(list(outputs), dim=1), share, vote=vote)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        wrong: Tensor = self.penalty(output, target.data.to(output).nan_to_num(0.0), reduction="none")
        return wrong[:, 0]

    def compare(self, output: Tensor, target: Field) -> tuple[Tensor, Tensor]:
        return self._scaled(output), self._scaled(target.data)

    def _scaled(self, value: Tensor) -> Tensor:
        """Standardised ``[B, 1]`` as numbers of the table ``[B]``, float64 where there is such: they may be large."""
        exact = torch.float32 if value.device.type == "mps" else torch.float64
        numbers = [float(self.modality.decode(row)) for row in value.detach().float().cpu().numpy()]
        return torch.tensor(numbers, dtype=exact, device=value.device)

    def metrics(self) -> MetricCollection:
        from sensorium.nn import measures
        from sensorium.nn.tracked import collection

        return collection({"mae": measures.mae, "rmse": measures.rmse, "r2": measures.r2, "pearson": measures.pearson})

    def decode(self, output: Tensor) -> list[dict[str, Any]]:
        return [{"value": float(self.modality.decode(row))} for row in output.detach().float().cpu().numpy()]

    def baseline(self, training: Field, rows: int) -> Tensor:
        return self._mean(training).expand(rows, 1)

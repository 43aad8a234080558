"""VICReg: alignment of vectors without negatives."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.mlp import Mlp
from sensorium.nn.views import layouts_of, several


@component
class Vicreg(Objective):
    """VICReg: vectors of one row agree, each number varies over the rows, and numbers are uncorrelated. No negatives.

    Between every two streams on the rows that have both, or between two random views of each stream. Works with small
    batches, where a contrast has few negatives. The projections exist in training only.
    Source: Bardes et al. 2022, https://arxiv.org/abs/2105.04906, equations 1 to 6.

    Args:
        between: ``streams`` (with one stream: views of it), or ``views`` of each stream.
        weight: Weight of this term.
        agree: Weight of the squared distance between the two vectors of a row.
        vary: Weight of the hinge that keeps each number's deviation above 1.
        decorrelate: Weight of the squared covariances between numbers.
        width: Width of the projections.
        strength: How much two views differ.
    """

    per_row: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True
    raw: ClassVar[bool] = True
    validated: ClassVar[bool] = True

    def __init__(
        self,
        model: Passable,
        *,
        between: Literal["streams", "views"] = "streams",
        weight: float = 0.04,
        agree: float = 25.0,
        vary: float = 25.0,
        decorrelate: float = 1.0,
        width: int = 128,
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (("weight", weight), ("agree", agree), ("vary", vary), ("decorrelate", decorrelate)):
            if value < 0:
                raise ConfigError(f"vicreg: {name} is {value}", fix="a weight is 0 or more")
        self.weight, self.agree, self.vary, self.decorrelate = weight, agree, vary, decorrelate
        self.strength, self.layouts = strength, layouts_of(model)
        self.streams, dim = model.fusion.streams, model.fusion.dim
        self.views = between == "views" or len(self.streams) == 1
        self.project = nn.ModuleList(Mlp(dim, width, width) for _ in self.streams)

    def forward(self, run: Forward) -> dict[str, Tensor]:
        pairs = list(self._pairs(run))
        if not pairs:
            return {}
        return {"vicreg": self.weight * torch.stack([self.compared(first, second) for first, second in pairs]).mean()}

    def _pairs(self, run: Forward) -> list[tuple[Tensor, Tensor]]:
        """Return the projected vectors of each pair of streams, or of two views of each stream, for rows that have both."""
        counts = run.batch.weight > 0
        pairs = []
        for s, stream in enumerate(self.streams if self.views else ()):
            kept = counts[run.inputs[stream].rows]
            if int(kept.sum()) > 1:
                views = several(self.layouts[stream], run.inputs[stream], self.strength, 2)
                first, second = self.project[s](run.model.encode_stream(stream, views).pooled).float().chunk(2)
                pairs.append((first[kept], second[kept]))
        if self.views:
            return pairs
        for a, b in combinations(range(len(self.streams)), 2):
            left, right = (run.streams[self.streams[s]] for s in (a, b))
            both = (left.present & right.present & counts).nonzero()[:, 0]
            if len(both) > 1:
                pairs.append((self.project[a](left.pooled[both]).float(), self.project[b](right.pooled[both]).float()))
        return pairs

    def compared(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of the two projected vectors of n rows, ``first`` and ``second`` ``[n, E]``."""
        loss = self.agree * F.mse_loss(first, second)
        for vectors in (first, second):
            centred = vectors - vectors.mean(dim=0)
            deviation = (centred.square().sum(dim=0) / (len(centred) - 1) + 1e-4).sqrt()
            covariance = centred.T @ centred / (len(centred) - 1)
            apart = covariance.square().sum() - covariance.diagonal().square().sum()
            loss = loss + self.vary * F.relu(1 - deviation).mean() / 2 + self.decorrelate * apart / centred.shape[1]
        return loss

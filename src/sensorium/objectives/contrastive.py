"""Contrastive alignment of the streams."""

from __future__ import annotations

import math
from itertools import combinations
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.contrastive_loss import INITIAL_BIAS, MAX_LOG_SCALE, sigmoid_loss, softmax_loss
from sensorium.nn.loss_reduction import weighted_mean
from sensorium.nn.streams import vectors


@component
class Contrastive(Objective):
    """Contrastive alignment: pulls the streams of one row together and those of different rows apart, in a common space.

    Used beside ``supervised`` to align the streams, or alone to learn from rows without targets. Each pair of streams is
    compared on the rows that have both; a pair with fewer than two such rows contributes no loss. The projections into
    the common space exist in training only.
    Source: ``softmax``, Radford et al. 2021 (CLIP), https://arxiv.org/abs/2103.00020, § 2.3, each way and their mean;
    ``sigmoid``, Zhai et al. 2023 (SigLIP), https://arxiv.org/abs/2303.15343, § 3.

    Args:
        weight: Weight of this term, relative to 1 for the targets.
        width: Width of the common space.
        loss: ``softmax``: which row of the batch matches; ``sigmoid``: whether each two rows match.
        temperature: Initial temperature, which is then learned. Lower is stricter.
    """

    per_row: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True

    def __init__(
        self,
        model: Passable,
        *,
        weight: float = 0.1,
        width: int = 64,
        loss: Literal["softmax", "sigmoid"] = "softmax",
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"contrastive: weight is {weight}", fix="a weight is 0 or more")
        if temperature < 0.01:
            raise ConfigError(f"contrastive: temperature is {temperature}", fix="0.01 or more; 0.07 is usual")
        self.weight, self.kind = weight, loss
        self.streams = model.fusion.streams
        self.project = nn.ModuleList(nn.Linear(model.fusion.dim, width, bias=False) for _ in self.streams)
        self.scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(INITIAL_BIAS)) if loss == "sigmoid" else None

    def forward(self, run: Forward) -> dict[str, Tensor]:
        if len(self.streams) < 2:
            return {}
        pooled, presence = vectors(run.streams, self.streams)
        terms = []
        for a, b in combinations(range(len(self.streams)), 2):
            both = (presence[:, a] & presence[:, b] & (run.batch.weight > 0)).nonzero().squeeze(1)
            if both.numel() > 1:
                left, right = (F.normalize(self.project[s](pooled[both, s]).float(), dim=1) for s in (a, b))
                terms.append(weighted_mean(self.compared(left @ right.T), run.batch.weight[both]))
        return {"contrastive": self.weight * torch.stack(terms).mean()} if terms else {}

    def compared(self, cosine: Tensor) -> Tensor:
        """The loss ``[B]`` of each row, from the similarities ``cosine`` ``[B, B]`` of one stream's rows with the
        other's."""
        logits = cosine * self.scale.clamp(max=MAX_LOG_SCALE).exp()
        every = torch.ones_like(logits, dtype=torch.bool)
        own = torch.eye(logits.shape[0], dtype=torch.bool, device=logits.device)
        if self.bias is not None:
            return sigmoid_loss(logits + self.bias, own, every)
        return (softmax_loss(logits, own, every) + softmax_loss(logits.T, own, every)) / 2

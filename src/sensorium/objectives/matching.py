"""Matching of streams of one row, with hard negatives."""

from __future__ import annotations

from itertools import permutations
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.loss_reduction import weighted_mean
from sensorium.nn.mlp import Mlp
from sensorium.nn.streams import vectors


@component
class Matching(Objective):
    """Matching with hard negatives: a classifier tells pairs of streams of one row from pairs of similar rows.

    For each row and each two streams, the partner is exchanged with that of another row, the more often the more similar it
    is. Used beside ``contrastive`` or the task ``pretraining``; it distinguishes details that a contrast of vectors
    overlooks. The classifier exists in training only. The term is its cross-entropy, log 2 at chance.
    Source: Li et al. 2021 (ALBEF), https://arxiv.org/abs/2107.07651, § 3.2.

    Args:
        weight: Weight of this term.
        hidden: Width of the classifier's hidden layer.
        temperature: Of the draw of negatives: near 0 the most similar row is always taken, large values draw any.
    """

    per_row: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True
    validated: ClassVar[bool] = True

    def __init__(self, model: Passable, *, weight: float = 1.0, hidden: int = 64, temperature: float = 0.1) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"matching: weight is {weight}", fix="a weight is 0 or more")
        if temperature <= 0:
            raise ConfigError(f"matching: temperature is {temperature}", fix="above 0; 0.1 is usual")
        self.weight, self.temperature = weight, temperature
        self.streams, dim = model.fusion.streams, model.fusion.dim
        self.project = nn.ModuleList(nn.Linear(dim, hidden) for _ in self.streams)
        self.judge = Mlp(3 * hidden, hidden, 1)

    def forward(self, run: Forward) -> dict[str, Tensor]:
        pooled, presence = vectors(run.streams, self.streams)
        terms = []
        for a, b in permutations(range(len(self.streams)), 2):
            both = (presence[:, a] & presence[:, b] & (run.batch.weight > 0)).nonzero()[:, 0]
            if len(both) < 2:
                continue
            left, right = self.project[a](pooled[both, a]), self.project[b](pooled[both, b])
            wrong = right[self.negatives(left.detach(), right.detach())]
            true, false = self.judged(left, right), self.judged(left, wrong)
            terms.append(weighted_mean((F.softplus(-true) + F.softplus(false)) / 2, run.batch.weight[both]))
        return {"matching": self.weight * torch.stack(terms).mean()} if terms else {}

    def judged(self, left: Tensor, right: Tensor) -> Tensor:
        """The log-odds ``[B]`` that ``left`` and ``right`` ``[B, H]`` belong to one row."""
        logit: Tensor = self.judge(torch.cat([left, right, left * right], dim=1))[:, 0].float()
        return logit

    def negatives(self, left: Tensor, right: Tensor) -> Tensor:
        """Another row for each row ``[B]``, drawn by the similarity of its ``right`` to the row's ``left``."""
        cosine = F.normalize(left.float(), dim=1) @ F.normalize(right.float(), dim=1).T
        own = torch.eye(len(left), dtype=torch.bool, device=left.device)
        chance = (cosine / self.temperature).masked_fill(own, -torch.inf).softmax(dim=1)
        return chance.multinomial(1)[:, 0]

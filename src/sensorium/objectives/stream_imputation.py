"""Prediction of the vectors of hidden streams from the others."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.loss_reduction import weighted_mean
from sensorium.nn.stream_imputer import StreamImputer
from sensorium.nn.streams import random_subsets, vectors


@component
class StreamImputation(Objective):
    """Stream imputation: hides random streams of each row and predicts their vectors from the rest.

    It trains the generator of the fusion ``stream_imputation``. With another fusion it has a generator of its own, for
    training only, and teaches encoders to predict the other streams. The term is the squared error, 1 for a constant
    prediction of zero; no gradient flows into the hidden vector.
    Source: reconstruction of hidden modalities, Ngiam et al. 2011 (Multimodal Deep Learning), § 3.2,
    https://dl.acm.org/doi/10.5555/3104482.3104569, between vectors.

    Args:
        weight: Weight of this term, relative to 1 for the targets.
        hidden: Width of the hidden layer of the objective's own generator.
    """

    per_row: ClassVar[bool] = False

    def __init__(self, model: Passable, *, weight: float = 0.5, hidden: int = 64) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"stream_imputation: weight is {weight}", fix="a weight is 0 or more")
        self.weight = weight
        self.streams = model.fusion.streams
        shared = [module for module in model.fusion.modules() if isinstance(module, StreamImputer)]
        self.own = None if shared else StreamImputer(len(self.streams), model.fusion.dim, hidden)
        # In a tuple, so that the model's generator is not registered, saved and optimised twice.
        self._shared = tuple(shared[:1])

    def forward(self, run: Forward) -> dict[str, Tensor]:
        pooled, presence = vectors(run.streams, self.streams)
        keep = random_subsets({s: presence[:, i] for i, s in enumerate(self.streams)})
        kept = torch.stack([keep[s] for s in self.streams], dim=1)
        weight = (presence & ~kept) * run.batch.weight.unsqueeze(1)
        if not bool((weight > 0).any()):
            return {}
        guess = self._shared[0] if self.own is None else self.own
        aim = pooled.detach().float()
        # Each stream is scaled by its own size, so that none dominates by the magnitude of its vectors.
        size = torch.stack(
            [weighted_mean(aim[:, s].square().mean(dim=1), presence[:, s] + 0.0) for s in range(len(self.streams))]
        )
        wrong = (guess(pooled, kept).float() - aim).square().mean(dim=2) / size.clamp(min=1e-6)
        return {"stream_imputation": self.weight * weighted_mean(wrong.flatten(), weight.flatten())}

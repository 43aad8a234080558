"""The losses of the tasks, on all streams and on random subsets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.loss_reduction import somewhere, weighted_mean
from sensorium.nn.streams import random_subsets

FURTHEST = 3.0
"""Bound of learnt log-weights, ±3; without it a target whose loss approaches 0 would dominate."""


@component
class Supervised(Objective):
    """Supervised losses of all targets, from all streams and from random subsets of them.

    Each step computes two losses from one encoding: from all streams of a row, and from a random non-empty proper subset.
    The second keeps each modality able to answer alone: without it the fastest one dominates, and a model that loses a
    modality does worse than one trained without it. Rows without a target contribute nothing to that target's loss.
    Source: modality dropout, Neverova et al. 2016 (ModDrop), https://arxiv.org/abs/1501.00102, moved behind the encoders;
    learnt weights, Kendall et al. 2018, https://arxiv.org/abs/1705.07115, equation 10: loss / σ² + log σ for each target.

    Args:
        subsets: Weight of the loss under missing streams, relative to 1 for complete rows; 0 trains on complete rows only.
        weights: Weights of several targets: ``equal``; ``learned``, more for those with less uncertainty; or by name, as
            in ``{price: 0.5, label: 1}``, 1 for those not named.
    """

    def __init__(
        self, model: Passable, *, subsets: float = 1.0, weights: Literal["equal", "learned"] | dict[str, float] = "equal"
    ) -> None:
        super().__init__()
        if subsets < 0:
            raise ConfigError(f"supervised: subsets is {subsets}", fix="a weight is 0 or more")
        self.subsets = subsets
        self.fixed = _checked(weights, list(model.tasks)) if isinstance(weights, Mapping) else {}
        self.order = {name: i for i, name in enumerate(model.tasks)}
        # log σ² of each target, before it is bounded.
        self.spread = nn.Parameter(torch.zeros(len(self.order))) if weights == "learned" else None

    def importance(self) -> dict[str, float]:
        return dict(self.fixed)

    def forward(self, run: Forward) -> dict[str, Tensor]:
        terms = self._terms(run, 1.0, "")
        if self.subsets > 0 and len(run.batch.inputs) > 1:
            keep = random_subsets({s: part.present for s, part in run.streams.items()})
            terms |= self._terms(run.hidden(keep), self.subsets, "/subsets")
        return terms

    def _terms(self, run: Forward, scale: float, suffix: str) -> dict[str, Tensor]:
        terms = {}
        for name, output in run.outputs.items():
            target = run.target(name)
            if target is None:
                continue
            task = run.model.tasks[name]
            weight = run.batch.weight * target.present
            if task.plain.needs_streams:
                weight = weight * run.fused.present
            loss = weighted_mean(task.loss(output, target), weight)
            terms[name + suffix] = scale * self._weighed(name, loss, weight)
        return terms

    def _weighed(self, name: str, loss: Tensor, weight: Tensor) -> Tensor:
        if self.spread is None:
            return self.fixed.get(name, 1.0) * loss
        spread = FURTHEST * (self.spread[self.order[name]] / FURTHEST).tanh()
        # A batch without this target gives no information on its uncertainty.
        return (loss * (-spread).exp() + spread / 2) * somewhere(weight)


def _checked(weights: Mapping[str, float], targets: list[str]) -> dict[str, float]:
    for name, weight in weights.items():
        if name not in targets:
            raise ConfigError(f"supervised: weights: no target named {name!r}{nearest(name, targets)}")
        if weight < 0:
            raise ConfigError(f"supervised: weights: {name} is {weight}", fix="a weight is 0 or more")
    if targets and all(weights.get(name, 1.0) == 0 for name in targets):
        raise ConfigError("supervised: weights: all are 0", fix="give at least one target a weight")
    return dict(weights)

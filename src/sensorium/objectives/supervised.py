"""The tasks' own losses, on the whole row and on random parts of it."""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.core.contracts import Objective
from sensorium.core.forward import Forward, Passable
from sensorium.core.registry import component
from sensorium.nn.reduce import weighted_mean


@component
class Supervised(Objective):
    """Learns the targets from all streams at once, and from random subsets of them, so that any stream may go missing.

    Each step answers twice from one encoding: from every stream a row has, and from a random proper subset of them (never
    none). The second keeps each modality able to answer alone: without it the fastest one starves the others, and a model
    that lost a modality falls below one that never had it.
    Source: modality dropout, Neverova et al. 2016 (ModDrop), https://arxiv.org/abs/1501.00102, moved behind the encoders.

    Args:
        subsets: Weight of the loss under missing streams, beside 1 for the whole row; 0 trains on whole rows only.
    """

    def __init__(self, model: Passable, *, subsets: float = 1.0) -> None:
        super().__init__()
        self.subsets = subsets

    def forward(self, run: Forward) -> dict[str, Tensor]:
        terms = self._terms(run, 1.0, "")
        if self.subsets > 0 and len(run.batch.inputs) > 1:
            keep = random_subsets({s: part.present for s, part in run.streams.items()})
            terms |= self._terms(run.hidden(keep), self.subsets, "/subsets")
        return terms

    @staticmethod
    def _terms(run: Forward, scale: float, suffix: str) -> dict[str, Tensor]:
        terms = {}
        for name, output in run.outputs.items():
            target = run.batch.targets.get(name)
            if target is None:
                continue
            weight = run.batch.weight * target.present * run.fused.present
            terms[name + suffix] = scale * weighted_mean(run.model.tasks[name].loss(output, target), weight)
        return terms


def random_subsets(present: dict[str, Tensor]) -> dict[str, Tensor]:
    """For each row a random subset of its streams: never none of those it has, and never all where it has two or more.

    ``present[stream]`` and the result are ``[B]`` bool.
    """
    here = torch.stack(list(present.values()), dim=1)  # [B, S]
    chance = torch.rand(here.shape, device=here.device)
    first = torch.where(here, chance, -1.0).argmax(dim=1, keepdim=True)
    last = torch.where(here, chance, 2.0).argmin(dim=1, keepdim=True)
    keep = (chance > 0.5).scatter(1, last, False).scatter(1, first, True) & here
    return {s: keep[:, i] for i, s in enumerate(present)}

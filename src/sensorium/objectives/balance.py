"""Balancing of modalities during training."""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.core.batch import Encoded
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.loss_reduction import shared, somewhere, weighted_mean


@component
class Balance(Objective):
    """Modality balancing: each stream must also answer alone, and those with the largest losses count most.

    Once one stream separates the training rows, the joint loss is small and the other streams learn nothing. Here every
    stream has its own loss too, weighted by its share of the sum over streams. Used beside ``supervised``, whose random
    subsets have a similar effect: ``{kind: supervised, subsets: 0}`` leaves it to this objective.
    Source: losses of single modalities beside the joint one, Wang et al. 2020 (Gradient-Blending),
    https://arxiv.org/abs/1905.12681; their weights by the ratio of what modalities achieve, Peng et al. 2022 (OGM-GE),
    https://arxiv.org/abs/2203.15332, which there slow down a modality's gradient: under AdamW, which divides a gradient by
    its own size, that would do nothing.

    Args:
        weight: Weight of the streams' own losses together, relative to 1 for the joint loss.
        focus: 0 weights streams equally, 1 by their losses; larger values emphasise those with larger losses.
    """

    def __init__(self, model: Passable, *, weight: float = 1.0, focus: float = 1.0) -> None:
        super().__init__()
        for name, value in (("weight", weight), ("focus", focus)):
            if value < 0:
                raise ConfigError(f"balance: {name} is {value}", fix="give 0 or more")
        self.weight, self.focus = weight, focus
        self.streams = model.fusion.streams

    def forward(self, run: Forward) -> dict[str, Tensor]:
        if len(self.streams) < 2:
            return {}
        alone = [run.hidden(self._only(stream, run.streams)) for stream in self.streams]
        terms = {}
        for name, task in run.model.tasks.items():
            target = run.target(name)
            if target is None:
                continue
            losses, known = [], []
            for part in alone:
                weight = run.batch.weight * target.present * part.fused.present
                losses.append(weighted_mean(task.loss(part.outputs[name], target), weight))
                known.append(somewhere(weight))
            loss, present = torch.stack(losses), torch.stack(known)
            terms[f"{name}/alone"] = self.weight * (loss * self.shares(shared(loss.detach()), present)).sum()
        return terms

    @staticmethod
    def _only(stream: str, streams: dict[str, Encoded]) -> dict[str, Tensor]:
        return {s: torch.zeros_like(part.present) for s, part in streams.items() if s != stream}

    def shares(self, loss: Tensor, present: Tensor) -> Tensor:
        """The weight of each stream ``[S]``, summing to 1 over those ``present``, from their losses ``loss`` ``[S]``."""
        share = loss.clamp(min=1e-6).pow(self.focus) * present
        total = share.sum()
        return share / torch.where(total > 0, total, torch.ones_like(total))

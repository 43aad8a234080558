"""Contrast of two views of a stream."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.contrastive_loss import softmax_loss
from sensorium.nn.loss_reduction import weighted_mean
from sensorium.nn.mlp import Mlp
from sensorium.nn.views import layouts_of, several


@component
class Simclr(Objective):
    """SimCLR: two random views of the same stream of a row must be closer than views of other rows.

    For pretraining where there is one stream, or where streams are rarely present together. Views are cropped, erased and
    noisy images and series, texts without some words, tables with cells of other rows. The projection exists in training
    only. Needs a batch of two rows at least; large batches are better.
    Source: Chen et al. 2020, https://arxiv.org/abs/2002.05709, equation 1 (NT-Xent).

    Args:
        weight: Weight of this term.
        streams: The streams; None: all.
        strength: How much views differ; 0: they are equal.
        temperature: Of the softmax. Lower is stricter.
        width: Width of the projection.
    """

    per_row: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True
    raw: ClassVar[bool] = True
    validated: ClassVar[bool] = True

    def __init__(
        self,
        model: Passable,
        *,
        weight: float = 1.0,
        streams: list[str] | None = None,
        strength: float = 1.0,
        temperature: float = 0.2,
        width: int = 64,
    ) -> None:
        super().__init__()
        if weight < 0 or strength < 0:
            raise ConfigError("simclr: weight and strength are 0 or more")
        if temperature < 0.01:
            raise ConfigError(f"simclr: temperature is {temperature}", fix="0.01 or more; 0.2 is usual")
        self.weight, self.strength, self.temperature = weight, strength, temperature
        self.layouts = layouts_of(model)
        self.streams = list(model.fusion.streams) if streams is None else streams
        for stream in self.streams:
            if stream not in model.fusion.streams:
                raise ConfigError(f"simclr: no stream named {stream!r}{nearest(stream, model.fusion.streams)}")
        dim = model.fusion.dim
        self.project = nn.ModuleList(Mlp(dim, dim, width) for _ in self.streams)

    def forward(self, run: Forward) -> dict[str, Tensor]:
        terms = []
        for stream, project in zip(self.streams, self.project, strict=True):
            field = run.inputs[stream]
            weight = run.batch.weight[field.rows]
            if len(weight) < 2:
                continue
            views = several(self.layouts[stream], field, self.strength, 2)
            vectors = F.normalize(project(run.model.encode_stream(stream, views).pooled).float(), dim=1)
            terms.append(weighted_mean(self.compared(vectors), weight.repeat(2)))
        return {"simclr": self.weight * torch.stack(terms).mean()} if terms else {}

    def compared(self, vectors: Tensor) -> Tensor:
        """NT-Xent ``[2 B]`` of the unit ``vectors`` ``[2 B, E]``: first one view of each row, then the other."""
        count = len(vectors)
        place = torch.arange(count, device=vectors.device)
        positive = place[None, :] == ((place + count // 2) % count)[:, None]
        return softmax_loss(vectors @ vectors.T / self.temperature, positive, place[None, :] != place[:, None])

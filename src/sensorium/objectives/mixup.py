"""Mixup of rows in pairs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sensorium.core.batch import Encoded
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.loss_reduction import weighted_mean


@component
class Mixup(Objective):
    """Mixup: trains on mixtures of two rows with mixed targets, against overconfidence on few rows.

    Streams are mixed after encoding, so that text and tables mix like images, and the losses of both targets are weighted
    by their shares, which every task supports. A mixture has the streams that both rows have; two rows without a common
    stream are not mixed. Used beside ``supervised`` or alone.
    Source: mixup, https://arxiv.org/abs/1710.09412, behind the encoders as in manifold mixup,
    https://arxiv.org/abs/1806.05236.

    Args:
        alpha: Parameter of the Beta distribution of shares: near 0 one row dominates, at 1 all shares are equally likely.
        weight: Weight of this loss.
    """

    per_row = False

    def __init__(self, model: Passable, *, alpha: float = 0.4, weight: float = 1.0) -> None:
        super().__init__()
        if alpha <= 0 or weight <= 0:
            raise ConfigError("mixup: alpha and weight are above 0")
        self.alpha, self.weight = alpha, weight

    def forward(self, run: Forward) -> dict[str, Tensor]:
        rows, device = run.batch.rows, run.batch.weight.device
        other = torch.randperm(rows, device=device)
        even = torch.full((rows,), self.alpha, device=device)
        # Unchecked: asking whether the parameters are in range would make the host wait for the device.
        share = torch.distributions.Beta(even, even, validate_args=False).sample()  # [B], of the row itself
        streams, mixed = mixture(run.streams, other, share)
        share = torch.where(mixed, share, 1.0)
        mixed_run = run.changed(streams)
        fused = mixed_run.fused
        terms = {}
        for name, output in mixed_run.outputs.items():
            target = run.target(name)
            if target is None:
                continue
            task, theirs = run.model.tasks[name], target.map(lambda t: t[other])
            losses = torch.cat([task.loss(output, target), task.loss(output, theirs)])
            mine = share * run.batch.weight * target.present * fused.present
            other_ones = (1 - share) * run.batch.weight[other] * theirs.present * fused.present
            terms[f"{name}/mixup"] = self.weight * weighted_mean(losses, torch.cat([mine, other_ones]))
        return terms


def mixture(streams: dict[str, Encoded], other: Tensor, share: Tensor) -> tuple[dict[str, Encoded], Tensor]:
    """``streams`` with each row i mixed with row ``other[i]``, keeping ``share[i]`` of itself; and which rows are
    mixtures ``[B]``.

    A token that only one of the two rows has is mixed with zero.
    """
    both = {name: part.present & part.present[other] for name, part in streams.items()}
    mixed = torch.stack(list(both.values())).any(dim=0)
    made = {}
    for name, part in streams.items():
        theirs = part.map(lambda t: t[other])
        keep = torch.where(mixed, share, 1.0)
        present = torch.where(mixed, both[name], part.present)
        row, token = keep[:, None], keep[:, None, None]
        mixture_of_parts = replace(
            part,
            tokens=token * part.tokens + (1 - token) * theirs.tokens,
            mask=part.mask | (theirs.mask & mixed[:, None]),
            pooled=row * part.pooled + (1 - row) * theirs.pooled,
            pyramid=tuple(
                theirs_present + keep.reshape(-1, *[1] * (level.dim() - 1)) * (level - theirs_present)
                for level, theirs_present in zip(part.pyramid, theirs.pyramid, strict=True)
            ),
        )
        made[name] = mixture_of_parts.hide(present)
    return made, mixed

"""Distillation across streams."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.loss_reduction import weighted_mean


@component
class Distillation(Objective):
    """Distillation across streams: each stream alone must answer as all streams together, or those named, do.

    No target is needed, so rows without one take part: a stream that few labelled rows have learns from the answers of
    another on rows that have both. The term is the squared difference of the raw outputs, in units of their variance over
    the batch. Used beside ``supervised``.
    Source: matching logits, Ba and Caruana 2014, https://arxiv.org/abs/1312.6184, § 2.2; between modalities, Gupta et al.
    2016, https://arxiv.org/abs/1507.00448.

    Args:
        weight: Weight of this term.
        teachers: The streams that answer; None: all that a row has.
    """

    per_row: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True

    def __init__(self, model: Passable, *, weight: float = 1.0, teachers: list[str] | None = None) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"distillation: weight is {weight}", fix="a weight is 0 or more")
        self.weight, self.streams = weight, list(model.fusion.streams)
        for stream in teachers or ():
            if stream not in self.streams:
                raise ConfigError(f"distillation: no stream named {stream!r}{nearest(stream, self.streams)}")
        self.teachers = self.streams if teachers is None else teachers

    def forward(self, run: Forward) -> dict[str, Tensor]:
        if len(self.streams) < 2:
            return {}
        streams = run.streams  # encoded here, with gradients, and not by the teachers
        with torch.no_grad():
            taught = run.only(*self.teachers)
            present, answers = taught.fused.present, taught.outputs
        terms: dict[str, list[Tensor]] = {}
        for stream in self.streams:
            alone = run.only(stream)
            # A row with only this stream has no teacher.
            others = torch.stack([streams[s].present for s in self.teachers if s != stream] or [~present]).any(dim=0)
            weight = run.batch.weight * (alone.fused.present & present & others)
            if not bool((weight > 0).any()):
                continue
            for name, output in alone.outputs.items():
                terms.setdefault(name, []).append(weighted_mean(difference(output, answers[name], weight), weight))
        return {f"{name}/distilled": self.weight * torch.stack(losses).mean() for name, losses in terms.items()}


def difference(output: Any, aim: Any, weight: Tensor) -> Tensor:
    """Return the squared difference of ``output`` and ``aim`` of each row ``[B]``, divided by the variance of ``aim`` over
    the rows of positive ``weight``."""
    counts, parts = weight > 0, []
    for ours, theirs in zip(pytree.tree_leaves(output), pytree.tree_leaves(aim), strict=True):
        if isinstance(ours, Tensor) and ours.is_floating_point() and ours.dim() and len(ours) == len(weight):
            output_values, aim_values = (leaf.float().reshape(len(weight), -1) for leaf in (ours, theirs))
            if not output_values.shape[1]:
                continue
            variance = aim_values[counts].var(dim=0, unbiased=False).mean()
            parts.append((output_values - aim_values).square().mean(dim=1) / variance.clamp(min=1e-4))
    return torch.stack(parts).mean(dim=0) if parts else torch.zeros_like(weight)

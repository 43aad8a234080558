"""Adversarial alignment of modalities."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.gradient_reversal import reverse
from sensorium.nn.grid_generator import Generator, ProjectionCritic
from sensorium.nn.loss_reduction import weighted_mean
from sensorium.nn.mlp import Mlp
from sensorium.nn.streams import vectors


@component
class Adversarial(Objective):
    """Adversarial alignment: a discriminator must not be able to tell which modality a vector came from.

    Modality-specific marks are removed from the vectors and shared information stays, so that one modality can substitute
    for another. With ``reconstruct``, a generator predicts each stream's vector from the joint one, and a second
    discriminator, of spectral norm 1, must not be able to tell it from the true one: the joint vector then keeps the
    information of each modality. All opponents are trained in one step, by gradient reversal, and exist in training only.

    Terms: ``adversarial``, the discriminator's cross-entropy: log(number of streams) at chance. ``adversarial/real``: that
    of the second; 2 log 2 at chance. ``adversarial/rebuilt``: the generator's squared error, times ``reconstruct``.
    Source: Ganin and Lempitsky 2015, https://arxiv.org/abs/1409.7495; reconstruction from the joint vector, Mai et al.
    2020, https://arxiv.org/abs/1911.07848; squared error beside a discriminator, Isola et al. 2017,
    https://arxiv.org/abs/1611.07004.

    Args:
        weight: Strength of the reversed gradient that reaches the encoders, relative to 1 for the targets. The
            discriminator itself always learns at full strength.
        hidden: Width of the hidden layers of discriminators and generator.
        reconstruct: Weight of reconstructing each stream's vector from the joint one; 0: no reconstruction.
    """

    per_row: ClassVar[bool] = False

    def __init__(self, model: Passable, *, weight: float = 1.0, hidden: int = 64, reconstruct: float = 0.0) -> None:
        super().__init__()
        for name, value in (("weight", weight), ("reconstruct", reconstruct)):
            if value < 0:
                raise ConfigError(f"adversarial: {name} is {value}", fix="a weight is 0 or more")
        self.weight, self.reconstruct = weight, reconstruct
        self.streams, dim = model.fusion.streams, model.fusion.dim
        count = len(self.streams)
        self.discriminator = Mlp(dim, hidden, count, depth=2)
        self.generators = self.critics = None
        if reconstruct > 0:
            width = max(1, hidden // 4)
            self.generators = nn.ModuleList(Generator(dim, (dim,), width) for _ in self.streams)
            # Critics also see the joint vector, so they reject plausible vectors that belong to another row.
            self.critics = nn.ModuleList(ProjectionCritic([(dim,)], dim, hidden, width) for _ in self.streams)

    def forward(self, run: Forward) -> dict[str, Tensor]:
        pooled, presence = vectors(run.streams, self.streams)
        weight = presence * run.batch.weight.unsqueeze(1)  # [B, S]
        terms = {}
        if int((weight > 0).any(dim=0).sum()) > 1:
            terms["adversarial"] = self.discriminator_loss(reverse(pooled, self.weight), weight)
        if self.generators is not None and bool((weight > 0).any()):
            terms |= self._rebuilt(pooled, weight, run.fused.pooled)
        return terms

    def discriminator_loss(self, pooled: Tensor, weight: Tensor) -> Tensor:
        """Cross-entropy of the discriminator over the vectors ``pooled`` ``[B, S, D]``; ``weight`` ``[B, S]`` is scaled
        so that all streams count equally, however rare."""
        logits = self.discriminator(pooled)  # [B, S, S]
        truth = torch.arange(len(self.streams), device=pooled.device).expand(pooled.shape[:2])
        wrong = F.cross_entropy(logits.flatten(0, 1).float(), truth.flatten(), reduction="none")
        total = weight.sum(dim=0)
        fair = weight / torch.where(total > 0, total, torch.ones_like(total))
        return weighted_mean(wrong, fair.flatten())

    def _rebuilt(self, pooled: Tensor, weight: Tensor, joint: Tensor) -> dict[str, Tensor]:
        assert self.generators is not None
        assert self.critics is not None
        adversarial, errors = [], []
        for s, (generate, judge) in enumerate(zip(self.generators, self.critics, strict=True)):
            # No gradient into the true vector: otherwise all vectors would shrink to zero.
            true, made, known = pooled[:, s].detach(), generate(joint), joint.detach()
            real = judge([true], known).float()
            fake = judge([reverse(made, self.reconstruct)], known).float()
            adversarial.append(weighted_mean(F.softplus(-real) + F.softplus(fake), weight[:, s]))
            errors.append(weighted_mean((made - true).square().mean(dim=1), weight[:, s]))
        return {
            "adversarial/real": torch.stack(adversarial).mean(),
            "adversarial/rebuilt": self.reconstruct * torch.stack(errors).mean(),
        }

"""The losses of the tasks on corrupted streams."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward, Passable
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.loss_reduction import weighted_mean
from sensorium.nn.views import layouts_of, view


@component
class Denoising(Objective):
    """Denoising: streams are corrupted at random, and the tasks are trained on them as on the intact ones.

    With the task ``pretraining`` this is a denoising autoencoder, which reconstructs the clean stream. With targets it
    trains answers that are robust to noise. Images and series are cropped, noisy and partly erased, words are dropped, and
    cells of a table are replaced by those of other rows.
    Source: Vincent et al. 2008, https://doi.org/10.1145/1390156.1390294, § 2.3.

    Args:
        weight: Weight of the tasks' losses on corrupted streams.
        strength: Strength of the corruption; 0: none.
    """

    raw: ClassVar[bool] = True

    def __init__(self, model: Passable, *, weight: float = 1.0, strength: float = 1.0) -> None:
        super().__init__()
        if weight < 0 or strength < 0:
            raise ConfigError("denoising: weight and strength are 0 or more")
        self.weight, self.strength = weight, strength
        self.layouts = layouts_of(model)

    def forward(self, run: Forward) -> dict[str, Tensor]:
        spoilt = {
            stream: run.model.encode_stream(stream, view(self.layouts[stream], field, self.strength))
            for stream, field in run.batch.inputs.items()
        }
        noisy = run.changed(spoilt)
        terms = {}
        for name, output in noisy.outputs.items():
            target = run.target(name)
            if target is not None:
                weight = run.batch.weight * target.present * noisy.fused.present
                loss = weighted_mean(run.model.tasks[name].loss(output, target), weight)
                terms[f"{name}/denoised"] = self.weight * loss
        return terms

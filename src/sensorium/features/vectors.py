"""Precomputed vectors, or those of a frozen encoder, as features."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Grid, Layout
from sensorium.core.registry import component
from sensorium.nn.randomized_svd import principal
from sensorium.signal.standardised import StandardisedFeatures

_DIRECTIONS = 128


@component
class Vectors(StandardisedFeatures):
    """A vector with each number standardised: a vector column, or the output of a frozen encoder.

    A frozen encoder has not seen the targets, so a linear model on its vectors generalises (a linear probe). The vectors of
    a trained encoder encode the targets of the training rows and are refused.

    Used by default for streams with frozen encoders.
    """

    used_by_default: ClassVar[bool] = False
    encoded: ClassVar[bool] = True
    directions: Tensor

    def __init__(self, layout: Grid) -> None:
        super().__init__(layout)
        self.declare("directions", torch.float32, 2)

    @classmethod
    def reads(cls, layout: Layout) -> bool:
        """A grid of one cell, whose channels are the numbers."""
        return isinstance(layout, Grid) and set(layout.size) == {1} and not layout.timed

    def measured(self, data: Tensor, mask: Tensor | None) -> Tensor:
        """Return the numbers of ``data`` ``[B, D, 1]``; ``mask`` is not used."""
        return data.flatten(2)[:, :, 0]

    def learn(self, sample: Tensor) -> None:
        # A seeded generator: the same rows give the same directions.
        self.keep("directions", principal(sample.cpu(), _DIRECTIONS, torch.Generator().manual_seed(0)))

    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Return the projections on the 128 principal directions of the training rows, if there are more numbers than
        that.
        """
        return features if features.shape[1] <= _DIRECTIONS else features @ self.directions

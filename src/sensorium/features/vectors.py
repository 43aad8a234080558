"""Vectors that others made: a column of them, or those of a frozen encoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Grid, Layout
from sensorium.core.registry import component
from sensorium.nn.randomized_svd import principal
from sensorium.signal.standardised import Scaled

_DIRECTIONS = 128


@component
class Vectors(Scaled):
    """A vector as it is, each number standardised: of a column of vectors, or what a frozen encoder makes of a stream.

    A frozen encoder learns nothing of the targets, so what a linear model makes of its vectors holds for new rows too (a
    linear probe). The vectors of an encoder that is trained tell the targets of the training rows: they are refused.

    Unasked it is taken for streams whose encoders are frozen.
    """

    usual: ClassVar[bool] = False
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
        """``data`` ``[B, D, 1]``."""
        return data.flatten(2)[:, :, 0]

    def learn(self, sample: Tensor) -> None:
        # A generator of its own: the same rows give the same directions.
        self.keep("directions", principal(sample.cpu(), _DIRECTIONS, torch.Generator().manual_seed(0)))

    def compact(self, features: Tensor, field: Field) -> Tensor:
        """The places along the 128 main directions of the training rows, where there are more numbers than that."""
        return features if features.shape[1] <= _DIRECTIONS else features @ self.directions

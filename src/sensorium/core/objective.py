"""What training minimises: the contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from sensorium.core.forward import Forward


class Objective(nn.Module, ABC):
    """What training minimises. Owns what exists only then. Positional parameter: the model."""

    per_row: ClassVar[bool] = True
    """False: a row's loss depends on the other rows of its batch (contrast). Among several processes it then sees the rows
    of its own, and its mean is over those. True: means are over the rows of all processes, so every ``weighted_mean`` must
    be asked for in every batch, whatever rows are in it.
    """
    raw: ClassVar[bool] = False
    """True: it reads streams before they are encoded, so the outputs of frozen encoders cannot be stored for it."""
    validated: ClassVar[bool] = False
    """True: its terms are computed on the validation rows too, logged, and count when the best epoch is chosen. For losses
    that no task has.
    """
    unlabelled: ClassVar[bool] = False
    """True: it learns from rows without any target too, which are then kept for training."""

    def importance(self) -> dict[str, float]:
        """How much targets count when the best epoch is chosen, by name; those not named count 1."""
        return {}

    @abstractmethod
    def forward(self, run: Forward) -> dict[str, Tensor]:
        """Named loss terms (scalars) of one pass; no term where no row qualifies. Their sum is minimised."""

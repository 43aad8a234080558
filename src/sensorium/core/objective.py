"""The contract of objectives, the losses that training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from sensorium.core.forward import Forward


class Objective(nn.Module, ABC):
    """A training loss, with the modules that exist only during training. Positional parameter: the model."""

    per_row: ClassVar[bool] = True
    """False: the loss of a row depends on the other rows of its batch (contrast); each process then computes it on its own
    rows. True: means are over the rows of all processes, so every ``weighted_mean`` must be computed for every batch,
    whichever rows it contains.
    """
    raw: ClassVar[bool] = False
    """True: it reads streams before encoding, so that outputs of frozen encoders cannot be cached for it."""
    validated: ClassVar[bool] = False
    """True: its terms are also computed on the validation rows, logged, and used to choose the best epoch. For losses that
    are not those of a task.
    """
    unlabelled: ClassVar[bool] = False
    """True: it also learns from rows without any target, which are then kept for training."""

    def importance(self) -> dict[str, float]:
        """The weights of targets in the choice of the best epoch, by name; 1 if not named."""
        return {}

    @abstractmethod
    def forward(self, run: Forward) -> dict[str, Tensor]:
        """Named loss terms (scalars) of one pass; no term where no row qualifies. Their sum is minimised."""

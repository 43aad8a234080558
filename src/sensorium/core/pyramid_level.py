"""Description of one feature map of an encoder's pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Level(NamedTuple):
    """One map of a pyramid: its channels, and how many cells of the layout's grid one of its cells stands for, by axis.

    Of data of ``size`` the map is ``ceil(size / stride)`` along each axis.
    """

    channels: int
    stride: tuple[int, ...]

    def size(self, of: Sequence[int]) -> tuple[int, ...]:
        """The size of the map of data of size ``of``."""
        return tuple(-(-n // step) for n, step in zip(of, self.stride, strict=True))

"""What an explainer promises: it says where in one stream of one row an answer comes from.

It works at the waist, on the prepared data of a ``Field``, and knows layouts and encoders but no kind of cell. What always
holds, and is tested for every one by ``sensorium.testing``: values are finite, zero where nothing is real, the same when
asked again; and where ``blank`` is given, they add up to the answer less that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sensorium.core.attribution_units import Units
from sensorium.core.layout import Layout

CHUNK = 64  # rows answered at a time


@dataclass(frozen=True)
class Probe:
    """One stream of one row, and the answer as a function of it alone: whatever else the row has stands still.

    Args:
        layout: The stream's.
        encoder: The stream's, in evaluation mode; the identity where there is no network.
        data: ``[1, ...]`` as the layout says.
        mask: ``[1, N]``: what of it is real; None: all.
        answer: Rows of this stream ``[n, ...]`` and their masks to what is explained ``[n]``: a class's chance, a value.
        smooth: Whether gradients reach the data through ``answer``.
        groups: Of ids and cells, which word or column each belongs to ``[N]``; -1: always kept.
    """

    layout: Layout
    encoder: nn.Module
    data: Tensor
    mask: Tensor | None
    answer: Callable[[Tensor, Tensor | None], Tensor]
    smooth: bool = True
    groups: Tensor | None = None

    def units(self, parts: int | None = None) -> Units:
        """The row divided into parts; ``parts``: of a grid, the number along each axis, None for the default."""
        return Units(self.layout, self.data, self.mask, groups=self.groups, parts=parts)

    @property
    def value(self) -> float:
        """The answer as the row is."""
        with torch.no_grad():
            return float(self.answer(self.data, self.mask)[0])

    @torch.no_grad()
    def kept(self, units: Units, keep: Tensor) -> Tensor:
        """The answer ``[n]`` with only the parts ``keep`` ``[n, parts]`` of ``units`` left."""
        return torch.cat([self.answer(*units.left(some)) for some in torch.split(keep, CHUNK)])


class Heat(NamedTuple):
    """What each element of a row did to the answer: positive spoke for it, negative against.

    Args:
        values: ``[C or 1, *size]`` of a grid, ``[N]`` of ids, points and nodes, ``[cells]`` of a table.
        blank: The answer from which the values lead, added up, to the row's own; None where they only rank.
    """

    values: Tensor
    blank: float | None = None


class Explainer(ABC):
    """A way to say where an answer comes from. Keyword-only parameters are the user's options."""

    reads: ClassVar[tuple[type[Layout], ...]]
    gradients: ClassVar[bool] = False
    """Whether it needs an answer that can be differentiated."""
    measures: ClassVar[bool] = False
    """Whether its values are in units of the answer (by how much it changes), and not only larger or smaller."""
    preferred: ClassVar[int] = 0
    """Its place where none is asked for: of those that can, the largest is taken. 0: never, as of any that was not measured
    to beat chance for every encoder it reads."""

    def refuses(self, probe: Probe) -> str:
        """The reason why it cannot explain ``probe``; empty if it can."""
        if not isinstance(probe.layout, self.reads):
            return f"does not read {type(probe.layout).__name__.lower()}"
        if self.gradients and not probe.smooth:
            return "cannot differentiate this answer: experts and the decisions of some tasks have no gradient"
        return ""

    @abstractmethod
    def explain(self, probe: Probe) -> Heat:
        """The values of the row of ``probe``. Gradients may be disabled by the caller, and none are left in the model."""

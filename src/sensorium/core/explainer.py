"""The contract of explainers, which attribute an answer to the elements of one stream of one row.

Explainers work on the prepared data of a ``Field`` and depend on layouts and encoders, never on the kind of cell.
Invariants, which ``sensorium.testing`` checks for each: values are finite, zero where nothing is real, and reproducible; if
``blank`` is set, they sum to the answer minus ``blank``.
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
    """One stream of one row, and the answer as a function of it with everything else held fixed.

    Args:
        layout: The layout of the stream.
        encoder: The encoder of the stream in evaluation mode; the identity without a network.
        data: ``[1, ...]`` in the shape of the layout.
        mask: ``[1, N]``: real elements; None: all.
        answer: Maps rows of this stream ``[n, ...]`` and their masks to the explained quantity ``[n]``: the probability
            of a class, a value.
        smooth: Whether ``answer`` is differentiable in the data.
        groups: For ids and cells, the word or column that each belongs to ``[N]``; -1: always kept.
    """

    layout: Layout
    encoder: nn.Module
    data: Tensor
    mask: Tensor | None
    answer: Callable[[Tensor, Tensor | None], Tensor]
    smooth: bool = True
    groups: Tensor | None = None

    def units(self, parts: int | None = None) -> Units:
        """The row divided into parts; ``parts``: the number along each axis of a grid, None for the default."""
        return Units(self.layout, self.data, self.mask, groups=self.groups, parts=parts)

    @property
    def value(self) -> float:
        """The answer for the unchanged row."""
        with torch.no_grad():
            return float(self.answer(self.data, self.mask)[0])

    @torch.no_grad()
    def kept(self, units: Units, keep: Tensor) -> Tensor:
        """The answers ``[n]`` with only the parts ``keep`` ``[n, parts]`` of ``units`` present."""
        return torch.cat([self.answer(*units.left(chunk)) for chunk in torch.split(keep, CHUNK)])


class Heat(NamedTuple):
    """The attribution of each element of a row: positive for the answer, negative against it.

    Args:
        values: ``[C or 1, *size]`` for a grid, ``[N]`` for ids, points and nodes, ``[cells]`` for a table.
        blank: The reference answer: values sum to the row's answer minus this; None if values only rank.
    """

    values: Tensor
    blank: float | None = None


class Explainer(ABC):
    """A method of attribution. Keyword-only parameters are the user's options."""

    reads: ClassVar[tuple[type[Layout], ...]]
    gradients: ClassVar[bool] = False
    """Whether it needs an answer that can be differentiated."""
    measures: ClassVar[bool] = False
    """Whether its values are in units of the answer (its change) rather than of arbitrary scale."""
    preferred: ClassVar[int] = 0
    """Priority as the default: the applicable explainer with the largest is used. 0: never a default, for explainers that
    were not measured to beat chance for every encoder they read."""

    def refuses(self, probe: Probe) -> str:
        """The reason why it cannot explain ``probe``; empty if it can."""
        if not isinstance(probe.layout, self.reads):
            return f"does not read {type(probe.layout).__name__.lower()}"
        if self.gradients and not probe.smooth:
            return "cannot differentiate this answer: experts and the decisions of some tasks have no gradient"
        return ""

    @abstractmethod
    def explain(self, probe: Probe) -> Heat:
        """The attribution of the row of ``probe``. The caller may disable gradients; none may be left in the model."""

"""The contract of scorers, which accumulate what the metrics of a task need, batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from sensorium.core.batch import Batch

Out = TypeVar("Out")
Kept = dict[str, Any]
"""What is kept of some rows, by name: tensors ``[n, ...]`` on the CPU, or lists of ``n`` plain values."""


class Scorer(ABC, Generic[Out]):
    """Accumulates the scores of one task over any number of batches, including scores of whole sets (recall at 10, BLEU).

    ``keep`` returns what metrics need of the rows of a batch: counts, a score, a sentence, an embedding; never a dense or
    generated output, so that memory grows slowly with the rows. ``compute`` returns the metrics of all kept rows, once or
    for many resamples.
    """

    macro: Collection[str] = ()
    """Metrics that are unweighted means over classes; reports mark them as such."""

    def __init__(self) -> None:
        self._kept: dict[str, GrowingTensor | list[Any]] = {}

    @abstractmethod
    def keep(self, output: Out, batch: Batch) -> Kept:
        """What is kept of the rows of ``batch`` with a target, from ``output``: one entry per row under each name."""

    @abstractmethod
    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Every metric (or those in ``names``) ``[R]`` float64, the headline first; NaN where undefined.

        Args:
            weights: ``[R, rows]`` float64: how often each row counts in each of R resamples. None: each once, R is 1.
        """

    def update(self, output: Out, batch: Batch) -> None:
        """Add the rows of ``batch`` with their ``output``."""
        self._take(self.keep(output, batch))

    def _take(self, part: Kept) -> None:
        for name, values in part.items():
            known = self._kept.setdefault(name, GrowingTensor() if isinstance(values, Tensor) else [])
            known.extend(values)

    @property
    def kept(self) -> Kept:
        """Everything kept so far, rows concatenated; empty before the first batch."""
        return {name: known.whole if isinstance(known, GrowingTensor) else known for name, known in self._kept.items()}

    def load(self, kept: Kept) -> None:
        """Replace the state by ``kept``, from another scorer of the same task."""
        self._kept = {}
        self._take(kept)

    @property
    def rows(self) -> int:
        """The number of scored rows."""
        return next((len(values) for values in self.kept.values()), 0)

    @property
    def varied(self) -> bool:
        """Whether the targets of the scored rows differ; if not, scores are uninformative."""
        return True

    def ones(self) -> Tensor:
        """The weights of the plain score ``[1, rows]``."""
        return torch.ones(1, self.rows, dtype=torch.float64)


class GrowingTensor:
    """A tensor to which rows are appended, in one block that doubles when full. A small block per batch, between large
    temporary ones, would fragment the heap."""

    def __init__(self) -> None:
        self._block: Tensor | None = None
        self._rows = 0

    def extend(self, rows: Tensor) -> None:
        """Append ``rows`` ``[n, ...]``, on the CPU."""
        rows = rows.detach().cpu()
        needed = self._rows + len(rows)
        if self._block is None or needed > len(self._block):
            block = rows.new_empty((max(2 * self._rows, needed, 64), *rows.shape[1:]))
            if self._block is not None:
                block[: self._rows] = self._block[: self._rows]
            self._block = block
        self._block[self._rows : needed] = rows
        self._rows = needed

    @property
    def whole(self) -> Tensor:
        """All rows ``[rows, ...]``."""
        return torch.zeros(0) if self._block is None else self._block[: self._rows]


def joined(parts: Iterable[Kept]) -> Kept:
    """The kept entries ``parts`` of several batches, concatenated."""
    every = list(parts)
    if len(every) < 2:
        return dict(every[0]) if every else {}
    return {
        name: torch.cat([part[name] for part in every])
        if isinstance(first, Tensor)
        else [value for part in every for value in part[name]]
        for name, first in every[0].items()
    }


def plain_scores(scorer: Scorer[Any]) -> dict[str, float]:
    """Every metric of the rows in ``scorer``, without resampling."""
    # To single precision: no metric of these rows is known to more digits.
    return {name: float(values[0].float()) for name, values in scorer.compute().items()}

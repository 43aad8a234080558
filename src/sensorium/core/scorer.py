"""How the answers of a task are scored: rows come in batch by batch, and only what the metrics need of each is kept."""

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
    """The scores of one task over any number of batches. A score of a whole set (a recall at 10, a corpus BLEU) is one too.

    ``keep`` says what is kept of the rows of a batch that count: counts, a score, a sentence, an embedding, but never a raw
    output of an answer that is dense or generated, so that memory grows by little with the rows. ``compute`` makes metrics
    of all that was kept, once or for many resamples of the rows.
    """

    macro: Collection[str] = ()
    """Metrics that are means over classes, each counting as much, which reports say of them."""

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
        """All that was kept, rows one after the other; empty before the first batch."""
        return {name: known.whole if isinstance(known, GrowingTensor) else known for name, known in self._kept.items()}

    def load(self, kept: Kept) -> None:
        """Replace the state by ``kept``, from another scorer of the same task."""
        self._kept = {}
        self._take(kept)

    @property
    def rows(self) -> int:
        """How many rows count."""
        return next((len(values) for values in self.kept.values()), 0)

    @property
    def varied(self) -> bool:
        """Whether the rows that count differ in what is true of them; where they do not, no score tells rows apart."""
        return True

    def ones(self) -> Tensor:
        """The weights of the plain score ``[1, rows]``."""
        return torch.ones(1, self.rows, dtype=torch.float64)


class GrowingTensor:
    """Rows of a tensor that come a few at a time. They lie in one block that is doubled when it is full: a small block a
    batch, between large ones that come and go, would keep the allocator from using the room of these again."""

    def __init__(self) -> None:
        self._block: Tensor | None = None
        self._rows = 0

    def extend(self, rows: Tensor) -> None:
        """Append ``rows`` ``[n, ...]``, on the CPU."""
        rows = rows.detach().cpu()
        wanted = self._rows + len(rows)
        if self._block is None or wanted > len(self._block):
            block = rows.new_empty((max(2 * self._rows, wanted, 64), *rows.shape[1:]))
            if self._block is not None:
                block[: self._rows] = self._block[: self._rows]
            self._block = block
        self._block[self._rows : wanted] = rows
        self._rows = wanted

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

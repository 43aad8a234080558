"""What is fitted in one go beside the network: features of a stream, and experts that answer from them.

    Field ─Features→ numbers ─Expert→ scores ─Task.scored→ output

Features need no gradient: word counts, quantiles, spectra. An expert is a convex model or an ensemble of trees over the
features of several streams. Both see rows as they are prepared, so that whatever hides a stream, spoils a cell or asks a
question of the model reaches them as it reaches the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Layout
from sensorium.core.learned_buffers import LearnedBuffers
from sensorium.core.registry import build, chosen, kind_of
from sensorium.core.stream_subsets import coalitions

CHUNK = 128
"""Rows whose features are held dense at once."""


@dataclass(frozen=True)
class Response:
    """What an expert answers, in the terms of statistics.

    Args:
        kind: ``classes``: one of ``size``; ``ordered``: one of ``size``, which lie in a row; ``labels``: any of ``size``;
            ``number``: ``size`` is 1;
            ``risk``: how much sooner than others a row has its event (a log hazard), ``size`` is 1.
        size: How many scores a row is given.
        weights: How much a row counts by its class ``[size]``; empty: all alike.
    """

    kind: Literal["classes", "ordered", "labels", "number", "risk"]
    size: int
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Observed:
    """Rows that experts are fitted on. Rows of an absent stream are zero.

    Args:
        features: By stream, ``[rows, F]``: a NumPy array, or a SciPy CSR matrix where most are zero.
        compact: By stream, ``[rows, f]`` float32: fewer numbers that say most of the same, for trees.
        present: By stream, ``[rows]`` bool.
        target: ``[rows]`` class indices (``classes``, ``ordered``), ``[rows, size]`` of 0 and 1 (``labels``), ``[rows]``
            float (``number``), ``[rows, 2]`` of time and 1 or 0 (``risk``: whether the event happened then).
        weight: ``[rows]``: how much each row counts; those of class weights are in it.
    """

    features: Mapping[str, Any]
    compact: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]
    target: NDArray[Any]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.weight)

    def take(self, index: NDArray[Any]) -> Observed:
        """The rows ``index``: indices or a mask; one of all rows copies nothing."""
        if index.dtype == np.bool_ and index.all():
            return self
        return Observed(
            {name: part[index] for name, part in self.features.items()},
            {name: part[index] for name, part in self.compact.items()},
            {name: part[index] for name, part in self.present.items()},
            self.target[index],
            self.weight[index],
        )


class Features(LearnedBuffers, ABC):
    """Numbers that say something of a stream and are learnt without a gradient. Positional parameter: the layout.

    Like an encoder it sees only rows that have the stream, prepared and not augmented.
    """

    usual: ClassVar[bool] = True
    """Whether it is taken unasked for every stream that it reads."""
    sparse: ClassVar[bool] = False
    """Whether most of ``forward`` is zero."""
    encoded: ClassVar[bool] = False
    """Whether of a stream whose layout it does not read it reads the vector of the stream's encoder, as a ``Grid`` of one
    cell, where that is frozen: it is then taken unasked. What a trained encoder says is learnt from targets."""

    @classmethod
    @abstractmethod
    def reads(cls, layout: Layout) -> bool:
        """Whether features of this kind apply to a stream of ``layout``."""

    @abstractmethod
    def fit(self, fields: Iterable[Field]) -> None:
        """Fit to the training rows ``fields``, in one pass: document frequencies, quantiles. Results are stored in
        declared buffers."""

    @abstractmethod
    def forward(self, field: Field) -> Tensor:
        """``[B, F]`` float32, finite; F is settled once it is fitted."""

    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Compact features ``[B, f]`` of ``field`` for trees, which handle a hundred numbers well and thirty thousand
        badly; NaN where missing.

        ``features`` is the result of ``forward`` for the same rows.
        """
        return features


class Expert(LearnedBuffers, ABC):
    """Answers from features, fitted on all rows at once. Positional parameters: the response, and the streams' names.

    It answers whichever streams a row has, and a row with none by the training targets alone.
    """

    answers: ClassVar[tuple[str, ...]] = ("classes", "ordered", "labels", "number", "risk")
    """The kinds of ``Response`` it can give."""
    reads: ClassVar[Literal["features", "compact"]] = "features"
    cost: ClassVar[str]
    """What fitting it costs, in words: how time and memory grow with rows, features and classes."""

    @classmethod
    def suits(cls, rows: int, layouts: Mapping[str, Layout]) -> bool:
        """Whether it is used by default for ``rows`` training rows of streams with ``layouts``."""
        return True

    def __init__(self, response: Response, streams: Sequence[str]) -> None:
        super().__init__()
        self.response, self.streams = response, tuple(streams)

    def like(self, other: Self) -> None:
        """Copy the settings that the ``fit`` of ``other`` chose (a strength, a number of trees), so that the next
        ``fit`` does not search. By default nothing is chosen in ``fit``."""

    @abstractmethod
    def fit(self, rows: Observed, seed: int) -> None:
        """Fit to ``rows``. The same rows and ``seed`` give the same expert. Results are stored in declared buffers."""

    def crossed(self, rows: Observed, fold: NDArray[np.int64], seed: int) -> dict[tuple[str, ...], Tensor]:
        """Out-of-fold scores by subset of streams ``[rows, size]``: each row's from an expert fitted on the other folds,
        given only these streams; without streams, from the targets alone.

        Called once it is fitted to ``rows`` with ``seed``, with the same settings. ``fold`` ``[rows]`` assigns rows to
        folds.
        """
        crossed: dict[tuple[str, ...], Tensor] = {}
        for k in np.unique(fold):
            other = self.fresh()
            other.like(self)
            other.fit(rows.take(fold != k), seed)
            apart = np.flatnonzero(fold == k)
            for some in coalitions(self.streams):
                held_out = other.scores_with(rows.take(apart), some)
                scores = crossed.setdefault(some, held_out.new_zeros(len(rows), self.response.size))
                scores[torch.from_numpy(apart)] = held_out
        return crossed

    def scores_with(self, rows: Observed, some: Sequence[str]) -> Tensor:
        """The scores ``[rows, size]`` of ``rows`` with only the streams ``some`` present."""
        form = rows.features if self.reads == "features" else rows.compact
        scores = [torch.zeros(0, self.response.size)]
        with torch.inference_mode():
            for start in range(0, len(rows), CHUNK):
                part = slice(start, start + CHUNK)
                present = {s: torch.from_numpy(rows.present[s][part] & (s in some)) for s in self.streams}
                scores.append(self({s: torch.from_numpy(_dense(form[s][part])) for s in self.streams}, present))
        return torch.cat(scores)

    def fresh(self) -> Self:
        """Another of the same kind and options, not fitted."""
        made: Self = build("experts", {"kind": kind_of(self), **chosen(self)}, self.response, self.streams)
        return made

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """``[B, size]`` float32: log-probabilities (``classes``, ``ordered``), log-odds (``labels``), the number, the log
        hazard.

        Args:
            features: By stream, what ``reads`` says of it ``[B, F]``; anything finite in rows without it.
            present: By stream, ``[B]`` bool.
        """


def _dense(part: Any) -> NDArray[np.float32]:
    dense: NDArray[np.float32] = part if isinstance(part, np.ndarray) else part.toarray()
    return np.ascontiguousarray(dense, dtype=np.float32)

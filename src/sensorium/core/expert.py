"""The contracts of features and experts: models that are fitted in one step beside the network.

    Field ─Features→ numbers ─Expert→ scores ─Task.scored→ output

Features need no gradient: word counts, quantiles, spectra. An expert is a convex model or an ensemble of trees over the
features of several streams. Both read prepared rows, so that hiding a stream, corrupting a cell or explaining an answer
affects them in the same way as the network.
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
"""Number of rows whose features are dense in memory at a time."""


@dataclass(frozen=True)
class Response:
    """The statistical type of what an expert predicts.

    Args:
        kind: ``classes``: one of ``size``; ``ordered``: one of ``size`` ordered classes; ``labels``: any of ``size``;
            ``number``: a number, ``size`` is 1; ``risk``: a log hazard, ``size`` is 1.
        size: Number of scores of a row.
        weights: Class weights ``[size]``; empty: all equal.
    """

    kind: Literal["classes", "ordered", "labels", "number", "risk"]
    size: int
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Observed:
    """Training rows of experts. The features of absent streams are zero.

    Args:
        features: By stream, ``[rows, F]``: a NumPy array, or a SciPy CSR matrix where most are zero.
        compact: By stream, ``[rows, f]`` float32: a compact version of the features, for trees.
        present: By stream, ``[rows]`` bool.
        target: ``[rows]`` class indices (``classes``, ``ordered``), ``[rows, size]`` of 0 and 1 (``labels``), ``[rows]``
            float (``number``), ``[rows, 2]`` of time and 1 or 0 (``risk``: whether the event happened then).
        weight: ``[rows]``: the weight of each row, class weights included.
    """

    features: Mapping[str, Any]
    compact: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]
    target: NDArray[Any]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.weight)

    def take(self, index: NDArray[Any]) -> Observed:
        """The rows ``index``: indices or a mask; a mask of all rows copies nothing."""
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
    """Features of a stream that are fitted without gradients. Positional parameter: the layout.

    Like an encoder it receives only rows that have the stream, prepared and not augmented.
    """

    used_by_default: ClassVar[bool] = True
    """Whether it is a default for every stream that it reads."""
    sparse: ClassVar[bool] = False
    """Whether most values of ``forward`` are zero."""
    encoded: ClassVar[bool] = False
    """Whether, for a stream whose layout it does not read, it reads the pooled vector of the stream's frozen encoder
    instead (a ``Grid`` of one cell); it is then a default. Vectors of trained encoders depend on the targets."""

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
        """The features ``[B, F]`` float32, finite; F is fixed once fitted."""

    def nonzero(self, field: Field) -> Tensor:
        """The result of ``forward`` for ``field`` as a coalesced sparse tensor; training reads it where ``sparse``."""
        dense: Tensor = self(field)
        return dense.to_sparse()

    @property
    def terms(self) -> tuple[str, ...]:
        """The term that each feature counts, in order, for features that count terms. By default none."""
        return ()

    def compact(self, features: Tensor, field: Field) -> Tensor:
        """Compact features ``[B, f]`` of ``field`` for trees, which handle a hundred numbers well and thirty thousand
        badly; NaN where missing.

        ``features`` is the result of ``forward`` or, where ``sparse``, possibly of ``nonzero`` for the same rows.
        """
        return features.to_dense() if features.is_sparse else features


class Expert(LearnedBuffers, ABC):
    """A model that predicts from features, fitted on all rows at once. Positional parameters: the response, stream names.

    It predicts from the streams that a row has; for a row without any, from the training targets alone.
    """

    answers: ClassVar[tuple[str, ...]] = ("classes", "ordered", "labels", "number", "risk")
    """The kinds of ``Response`` it supports."""
    reads: ClassVar[Literal["features", "compact"]] = "features"
    cost: ClassVar[str]
    """The cost of fitting, in words: growth of time and memory with rows, features and classes."""

    @classmethod
    def suits(cls, rows: int, layouts: Mapping[str, Layout]) -> bool:
        """Whether it is used by default for ``rows`` training rows of streams with ``layouts``."""
        return True

    def __init__(self, response: Response, streams: Sequence[str]) -> None:
        super().__init__()
        self.response, self.streams = response, tuple(streams)

    def like(self, other: Self) -> None:
        """Copy the settings chosen by the ``fit`` of ``other`` (a penalty, a number of trees), so that the next ``fit``
        does not search. By default ``fit`` chooses nothing."""

    @abstractmethod
    def fit(self, rows: Observed, seed: int) -> None:
        """Fit to ``rows``, deterministically for a ``seed``. Results are stored in declared buffers."""

    def fit_and_cross_predict(self, rows: Observed, fold: NDArray[np.int64], seed: int) -> dict[tuple[str, ...], Tensor]:
        """Fit to ``rows`` like ``fit``, and return out-of-fold scores ``[rows, size]`` for each subset of streams: each row
        is scored by an expert fitted on the other folds, with only these streams present; without any stream, from the
        targets alone.

        ``fold`` ``[rows]`` assigns rows to folds; ``seed`` is that of every fit.
        """
        self.fit(rows, seed)
        crossed: dict[tuple[str, ...], Tensor] = {}
        for k in np.unique(fold):
            other = self.fresh()
            other.like(self)
            other.fit(rows.take(fold != k), seed)
            apart = np.flatnonzero(fold == k)
            for subset in coalitions(self.streams):
                held_out = other.scores_with(rows.take(apart), subset)
                scores = crossed.setdefault(subset, held_out.new_zeros(len(rows), self.response.size))
                scores[torch.from_numpy(apart)] = held_out
        return crossed

    def scores_with(self, rows: Observed, some: Sequence[str]) -> Tensor:
        """Return the scores ``[rows, size]`` of ``rows`` with only the streams ``some`` present."""
        form = rows.features if self.reads == "features" else rows.compact
        scores = [torch.zeros(0, self.response.size)]
        with torch.inference_mode():
            for start in range(0, len(rows), CHUNK):
                part = slice(start, start + CHUNK)
                present = {s: torch.from_numpy(rows.present[s][part] & (s in some)) for s in self.streams}
                scores.append(self({s: torch.from_numpy(_dense(form[s][part])) for s in self.streams}, present))
        return torch.cat(scores)

    def fresh(self) -> Self:
        """Return an unfitted expert of the same kind and options."""
        made: Self = build("experts", {"kind": kind_of(self), **chosen(self)}, self.response, self.streams)
        return made

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """``[B, size]`` float32: log-probabilities (``classes``, ``ordered``), log-odds (``labels``), the number, the log
        hazard.

        Args:
            features: By stream, the form that ``reads`` names ``[B, F]``; any finite values in rows without the stream.
            present: By stream, ``[B]`` bool.
        """


def _dense(part: Any) -> NDArray[np.float32]:
    dense: NDArray[np.float32] = part if isinstance(part, np.ndarray) else part.toarray()
    return np.ascontiguousarray(dense, dtype=np.float32)

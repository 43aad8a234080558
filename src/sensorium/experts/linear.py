"""A regularised linear model over the features of all streams together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorium.core.expert import Expert, Observed, Response
from sensorium.core.registry import component
from sensorium.core.stream_subsets import coalitions, routed
from sensorium.nn.gram_projection import ROWS, Narrowed, products
from sensorium.nn.linear_solvers import STRENGTHS, Floats, Solver, answered, chosen, fits, folds, prior

FEWEST = 10
"""A set of streams that fewer rows have is not fitted: they are answered from a smaller set."""
FOLDS = 3
TRIED, FITTED = 2e7, 3e8
"""How many numbers that are not zero, times classes, the strength is chosen on, and a head is fitted on; beyond, on a part
of the rows. A step of the solver takes about two seconds per 1e9."""
HEADS = 4
"""How many times the work, or the weights, of the first head those of sets between all streams and one may add."""
SINGLE = 2e7
"""From so many numbers on, the solver sees them in single precision."""
DECADES = STRENGTHS[::2]
LANES = 16
"""Columns of a product are padded to a multiple of this: the floats of the widest vector registers (512 bits)."""
TOGETHER = (0.3, 1.0, 3.0)
"""What the strengths that suit streams alone are multiplied with where several share a head."""


@component
class Linear(Expert):
    """A regularised linear model over the features of all streams: hard to beat where rows are few.

    Logistic regression (classes, labels), the proportional-odds model (ordered classes), ridge regression (numbers). Every
    set of streams has a model of its own, fitted on the rows that have all of the set; a row is answered by that of the
    largest set it has. A set with fewer than ten rows, or whose rows all say the same, has none. Streams that share a
    model are each held as strongly as suits them alone, so that one that says little does not drown the others.
    Source: Li & Lin, Ordinal regression by extended binary classification, NeurIPS 2006 (ordered classes).

    Args:
        strength: How far the data may pull the weights, the C of scikit-learn; none: chosen by three folds, for each stream
            alone and for all together.
        balance: ``alone``: how strongly each stream is held in a model of several is what suits it alone; ``even``: all
            alike, at one total variance.
        weights: The most weights of one model: features times classes. Beyond, the features that vary least are left out.
    """

    cost = (
        "time grows with the numbers that are not zero times classes: seconds for thousands of rows, some minutes at most; "
        "memory with features times classes, 250 bytes each while fitting, and 4 bytes in every saved set of streams"
    )

    def __init__(
        self,
        response: Response,
        streams: Sequence[str],
        *,
        strength: float | None = None,
        balance: Literal["alone", "even"] = "alone",
        weights: int = 2_000_000,
    ) -> None:
        super().__init__(response, streams)
        if strength is not None and strength <= 0:
            raise ValueError(f"strength must be above 0, not {strength}")
        self.strength, self.balance, self.weights = strength, balance, weights
        self.sets = coalitions(self.streams)
        self.tuned: dict[tuple[str, ...], float] = {}
        """What was chosen: the strength of each stream alone, and what those of several are multiplied with."""
        self.settled: Mapping[tuple[str, ...], float] = {}
        self.prior: Tensor
        self.declare("prior", torch.float32, 1)
        for stream in range(len(self.streams)):
            self.declare(f"columns_{stream}", torch.int64, 1)
        for place in range(len(self.sets) - 1):
            self.declare(f"weight_{place}", torch.float32, 2)
            self.declare(f"bias_{place}", torch.float32, 1)

    # ── fitting ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def like(self, other: Self) -> None:
        self.settled = other.tuned

    def fit(self, rows: Observed, seed: int) -> None:
        known = prior(self.response, rows.target, rows.weight)
        self.keep("prior", torch.from_numpy(known))
        columns = self._columns(rows)
        for number, stream in enumerate(self.streams):
            self.keep(f"columns_{number}", torch.from_numpy(columns[stream]))
        self.tuned = dict(self.settled)
        for place, (index, part, seen) in self._spaces(rows, columns, known, seed):
            target, weight = rows.target[index], rows.weight[index]
            strength = self._strength(self.sets[place])
            head = Solver(self.response, known).fit(seen.x, target[part], weight[part], strength)
            self.keep(f"weight_{place}", torch.from_numpy(seen.weights(head.weight)))
            self.keep(f"bias_{place}", torch.from_numpy(head.bias))

    def crossed(self, rows: Observed, fold: NDArray[np.int64], seed: int) -> dict[tuple[str, ...], Tensor]:
        """What heads say of the rows that they were not fitted on; the features are gone through once for all folds."""
        known = prior(self.response, rows.target, rows.weight)
        found: dict[tuple[str, ...], Tensor] = {(): torch.from_numpy(known).float().expand(len(rows), -1).clone()}
        columns = {s: getattr(self, f"columns_{i}").numpy() for i, s in enumerate(self.streams)}
        for place, (index, part, seen) in self._spaces(rows, columns, known, seed, tune=False):
            where = index if isinstance(part, slice) else index[part]
            said = found[()].clone()
            for k in np.unique(fold):
                own, other = fold[where] != k, fold[where] == k
                if not other.any() or not fits(self.response, rows.target[where[own]]):
                    continue
                head = Solver(self.response, known).fit(
                    seen.x[own], rows.target[where[own]], rows.weight[where[own]], self._strength(self.sets[place])
                )
                raw = torch.from_numpy(np.asarray(seen.x[other] @ head.weight + head.bias, dtype=np.float64))
                said[torch.from_numpy(where[other])] = answered(self.response, raw, torch.from_numpy(known)).float()
            found[self.sets[place]] = said
        return found

    def _strength(self, some: tuple[str, ...]) -> float:
        like = some if len(some) == 1 else next((other for other in self.tuned if len(other) > 1), some)
        return self.tuned[like]

    def _spaces(
        self,
        rows: Observed,
        columns: Mapping[str, NDArray[np.int64]],
        known: Floats,
        seed: int,
        *,
        tune: bool = True,
    ) -> Iterator[tuple[int, tuple[NDArray[Any], NDArray[Any] | slice, Narrowed]]]:
        """By place of a set of streams that has a head: its rows, those of them it is fitted on, and what the solver sees.
        Strengths are chosen on the way."""
        pairs: dict[str, Floats] = {}
        blocks = {s: _block(rows.features[s], slice(None), columns[s]) for s in self.streams}
        spread = {s: max(_power(blocks[s][rows.present[s]]), 1e-12) for s in self.streams}
        work = size = 0.0
        # Each stream alone first, then all, then the sets between: these give way where time or room is short.
        order = sorted(range(len(self.sets) - 1), key=lambda i: {1: 0, len(self.streams): 1}.get(len(self.sets[i]), 2))
        for place in order:
            some = self.sets[place]
            index = np.flatnonzero(np.all([rows.present[stream] for stream in some], axis=0))
            found = sum(len(columns[stream]) for stream in some)
            if len(index) < FEWEST or not found or not fits(self.response, rows.target[index]):
                continue
            load = sum(_filled(blocks[s]) for s in some) * len(index) / len(rows) * self.response.size
            if 1 < len(some) < len(self.streams):
                work, size = work + min(load, FITTED), size + found * self.response.size
                if work > HEADS * FITTED or size > HEADS * self.weights:
                    continue
            target, weight = rows.target[index], rows.weight[index]
            part = _part(self.response, target, FITTED / load, seed)
            narrow = len(rows) <= ROWS and found > len(index) and isinstance(part, slice)
            for stream in some if narrow else ():
                if stream not in pairs:
                    pairs[stream] = products(blocks[stream])
            kind = np.float32 if load > SINGLE * self.response.size else np.float64
            used = index if isinstance(part, slice) else index[part]
            seen = Narrowed.of(
                [blocks[stream][used] for stream in some],
                [self._scale(stream, some, spread) for stream in some],
                [pairs[stream][np.ix_(used, used)] if narrow else None for stream in some],
                kind,
            )
            if tune:
                self._tune(some, seen, target[part], weight[part], known, load, seed)
            yield place, (index, part, seen)

    def _scale(self, stream: str, some: tuple[str, ...], spread: Mapping[str, float]) -> float:
        """What a stream's features are multiplied with: to a total variance of 1, and among several by its own strength."""
        own = self.tuned.get((stream,), 1.0) if len(some) > 1 and self.balance == "alone" else 1.0
        return float(np.sqrt(own / spread[stream]))

    def _columns(self, rows: Observed) -> dict[str, NDArray[np.int64]]:
        """By stream the features that are used: all, or those that vary most where there are too many."""
        width = {stream: rows.features[stream].shape[1] for stream in self.streams}
        total, most = sum(width.values()), max(1, self.weights // self.response.size)
        if total <= most:
            return {stream: np.arange(width[stream]) for stream in self.streams}
        power = {stream: _spread(rows.features[stream][rows.present[stream]]) for stream in self.streams}
        share = np.concatenate([each / (each.sum() or 1.0) for each in power.values()])
        order = np.zeros(total, dtype=bool)
        order[np.argsort(-share, kind="stable")[:most]] = True
        ends = np.cumsum([len(each) for each in power.values()])[:-1]
        return {stream: np.flatnonzero(part) for stream, part in zip(power, np.split(order, ends), strict=True)}

    def _tune(
        self,
        some: tuple[str, ...],
        seen: Narrowed,
        target: NDArray[Any],
        weight: Floats,
        known: Floats,
        load: float,
        seed: int,
    ) -> None:
        """Choose the strength of a set by folds (one of them held out where there is much to do)."""
        if some in self.tuned or (len(some) > 1 and any(len(other) > 1 for other in self.tuned)):
            return
        tried = TOGETHER if len(some) > 1 and self.balance == "alone" else DECADES
        if self.strength is not None:
            self.tuned[some] = 1.0 if tried is TOGETHER else self.strength
            return
        few = _part(self.response, target, TRIED / load, seed)
        x, target, weight = seen.x[few], target[few], weight[few]
        fold = folds(self.response, target, FOLDS, seed)
        # Where there is much to do, one fold is held out.
        held = range(FOLDS) if load <= TRIED / FOLDS or seen.factor is not None else range(1)
        self.tuned[some], _ = chosen(self.response, x, target, weight, known, fold, held, tried)

    # ── answering ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        fitted = [i for i in range(len(self.sets) - 1) if len(getattr(self, f"bias_{i}"))]
        which = routed(self.streams, [*(self.sets[i] for i in fitted), ()], present)
        out = self.prior.expand(len(which), -1).clone()
        for number, place in enumerate(fitted):
            index = (which == number).nonzero()[:, 0]
            if len(index):
                # Of all rows, whichever are wanted: sums then run alike whatever streams the other rows of a batch have.
                x = torch.cat([self._used(stream, features[stream]) for stream in self.sets[place]], dim=1)
                raw = _product(x.to(self.prior), getattr(self, f"weight_{place}")) + getattr(self, f"bias_{place}")
                out[index] = answered(self.response, raw[index], self.prior)
        return out

    def _used(self, stream: str, features: Tensor) -> Tensor:
        columns: Tensor = getattr(self, f"columns_{self.streams.index(stream)}")
        return features if len(columns) == features.shape[1] else features[:, columns]


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight`` ``[B, K]``, computed with the columns padded to a multiple of ``LANES``.

    With few columns, kernels sum the last rows of a batch in another order than the first, so a row's answer would depend
    on its place; with whole vector registers they do not.
    """
    columns = weight.shape[1]
    return (x @ nn.functional.pad(weight, (0, -columns % LANES)))[:, :columns]


def _block(features: Any, index: NDArray[Any] | slice, columns: NDArray[np.int64]) -> Any:
    some = features[index]
    return some if len(columns) == features.shape[1] else some[:, columns]


def _filled(part: Any) -> int:
    """How many numbers a block holds: of a sparse one those that are not zero."""
    return max(1, int(getattr(part, "nnz", part.shape[0] * part.shape[1])))


def _spread(part: Any) -> Floats:
    """The variance of every column."""
    rows = max(1, part.shape[0])
    mean = np.asarray(part.sum(axis=0, dtype=np.float64)).ravel() / rows
    if isinstance(part, np.ndarray):
        found: Floats = np.square(part - mean).sum(axis=0, dtype=np.float64) / rows
        return found
    square = np.asarray(part.multiply(part).sum(axis=0, dtype=np.float64)).ravel() / rows
    spread: Floats = np.maximum(square - mean**2, 0.0)
    return spread


def _power(part: Any) -> float:
    """The variance of all columns together."""
    return float(_spread(part).sum()) if part.shape[0] else 0.0


def _part(response: Response, target: NDArray[Any], share: float, seed: int) -> NDArray[Any] | slice:
    """About this share of the rows, of each class alike; all where it is 1 or more."""
    if share >= 1:
        return slice(None)
    return np.flatnonzero(folds(response, target, int(np.ceil(1 / share)), seed) == 0)

"""A regularised linear model on the features of all streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorium.core.expert import Expert, Observed, Response
from sensorium.core.registry import component
from sensorium.core.stream_subsets import coalitions, route_rows
from sensorium.nn.gram_projection import ROWS, GramProjection, products
from sensorium.nn.linear_solvers import STRENGTHS, Floats, Solver, answered, chosen, fits, folds, prior

FEWEST = 10
"""Minimum number of rows for fitting a set of streams; rows of smaller sets use a subset's model."""
FOLDS = 3
TRIED, FITTED = 2e7, 3e8
"""Maximum number of non-zero values times classes for choosing the strength and for fitting a model; beyond it, rows are
subsampled. A solver step takes about two seconds per 1e9."""
HEADS = 4
"""Budget for models of intermediate sets of streams, as a multiple of the work and of the weights of one model."""
SINGLE = 2e7
"""Number of values above which the solver uses single precision."""
DECADES = STRENGTHS[::2]
LANES = 16
"""Columns of a product are padded to a multiple of this: the floats of the widest vector registers (512 bits)."""
TOGETHER = (0.3, 1.0, 3.0)
"""Candidate factors for the streams' own strengths in a joint model."""


@component
class Linear(Expert):
    """A regularised linear model on the features of all streams: hard to beat with few rows.

    Logistic regression (classes, labels), proportional odds (ordered classes), ridge regression (numbers) or Cox regression
    (risks). Every set of streams (of more than four: all, all but one, and each alone) has its own model, fitted on the
    rows that have all of its streams; a row is predicted by the model of the largest set it has. Sets with fewer than ten
    rows or with constant targets have none, nor do intermediate sets beyond the time and size limits. In a joint model,
    each stream is regularised as strongly as suits it alone, so that uninformative streams do not dominate.
    Source: Li & Lin, Ordinal regression by extended binary classification, NeurIPS 2006 (ordered classes).

    Args:
        strength: Inverse regularisation strength (``C`` in scikit-learn); none: chosen by three-fold cross-validation, for
            each stream alone and for joint models.
        balance: Regularisation of streams in a joint model: ``alone`` uses the strength chosen for each stream by itself,
            ``even`` the same for all after scaling to equal total variance.
        weights: Maximum number of weights of one model (features times classes); beyond it, the features with the least
            variance are dropped.
    """

    cost = (
        "time grows with non-zero values times classes: seconds for thousands of rows, a few minutes at most; memory "
        "with features times classes, 250 bytes each while fitting, and 4 bytes for every saved set of streams"
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
        """The chosen strength of each stream alone, and the factor for joint models."""
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
        for _ in self._fitted_sets(rows, seed):
            pass

    def fit_and_cross_predict(self, rows: Observed, fold: NDArray[np.int64], seed: int) -> dict[tuple[str, ...], Tensor]:
        """Fit to ``rows``, and return out-of-fold scores by set of streams.

        The strength is chosen once, and features are projected once for all folds.
        """
        known = prior(self.response, rows.target, rows.weight)
        crossed: dict[tuple[str, ...], Tensor] = {(): torch.from_numpy(known).float().expand(len(rows), -1).clone()}
        for place, used, projection in self._fitted_sets(rows, seed):
            predictions = crossed[()].clone()
            for k in np.unique(fold):
                own, other = fold[used] != k, fold[used] == k
                if not other.any() or not fits(self.response, rows.target[used[own]]):
                    continue
                head = Solver(self.response, known).fit(
                    projection.x[own], rows.target[used[own]], rows.weight[used[own]], self._strength(self.sets[place])
                )
                raw = torch.from_numpy(np.asarray(projection.x[other] @ head.weight + head.bias, dtype=np.float64))
                values = answered(self.response, raw, torch.from_numpy(known)).float()
                predictions[torch.from_numpy(used[other])] = values
            crossed[self.sets[place]] = predictions
        return crossed

    def _fitted_sets(self, rows: Observed, seed: int) -> Iterator[tuple[int, NDArray[np.int64], GramProjection]]:
        """Choose the strengths and fit a model for each set of streams; yield the set's index, the indices of the rows that
        it was fitted on, and their features as the solver sees them."""
        known = prior(self.response, rows.target, rows.weight)
        self.keep("prior", torch.from_numpy(known))
        columns = self._columns(rows)
        for number, stream in enumerate(self.streams):
            self.keep(f"columns_{number}", torch.from_numpy(columns[stream]))
        self.tuned = dict(self.settled)
        for place, used, projection in self._spaces(rows, columns, known, seed):
            strength = self._strength(self.sets[place])
            head = Solver(self.response, known).fit(projection.x, rows.target[used], rows.weight[used], strength)
            self.keep(f"weight_{place}", torch.from_numpy(projection.weights(head.weight)))
            self.keep(f"bias_{place}", torch.from_numpy(head.bias))
            yield place, used, projection

    def _strength(self, streams: tuple[str, ...]) -> float:
        like = streams if len(streams) == 1 else next((other for other in self.tuned if len(other) > 1), streams)
        return self.tuned[like]

    def _spaces(
        self, rows: Observed, columns: Mapping[str, NDArray[np.int64]], known: Floats, seed: int
    ) -> Iterator[tuple[int, NDArray[np.int64], GramProjection]]:
        """Yield, for each set of streams to fit, its index, the indices of the rows to fit on and the solver's features.

        Chooses the regularisation strengths along the way.
        """
        pairs: dict[str, Floats] = {}
        blocks = {s: _block(rows.features[s], columns[s]) for s in self.streams}
        spread = {s: max(_power(blocks[s][rows.present[s]]), 1e-12) for s in self.streams}
        work = size = 0.0
        # Single streams first, then all, then intermediate sets, which are skipped if the budget is exhausted.
        order = sorted(range(len(self.sets) - 1), key=lambda i: {1: 0, len(self.streams): 1}.get(len(self.sets[i]), 2))
        for place in order:
            streams = self.sets[place]
            index = np.flatnonzero(np.all([rows.present[stream] for stream in streams], axis=0))
            features = sum(len(columns[stream]) for stream in streams)
            if len(index) < FEWEST or not features or not fits(self.response, rows.target[index]):
                continue
            load = sum(_filled(blocks[s]) for s in streams) * len(index) / len(rows) * self.response.size
            if 1 < len(streams) < len(self.streams):
                work, size = work + min(load, FITTED), size + features * self.response.size
                if work > HEADS * FITTED or size > HEADS * self.weights:
                    continue
            part = _part(self.response, rows.target[index], FITTED / load, seed)
            narrow = len(rows) <= ROWS and features > len(index) and isinstance(part, slice)
            for stream in streams if narrow else ():
                if stream not in pairs:
                    pairs[stream] = products(blocks[stream])
            kind = np.float32 if load > SINGLE * self.response.size else np.float64
            used = index if isinstance(part, slice) else index[part]
            projection = GramProjection.of(
                [blocks[stream] if len(used) == len(rows) else blocks[stream][used] for stream in streams],
                [self._scale(stream, streams, spread) for stream in streams],
                [pairs[stream][np.ix_(used, used)] if narrow else None for stream in streams],
                kind,
            )
            self._tune(streams, projection, rows.target[used], rows.weight[used], known, load, seed)
            yield place, used, projection

    def _scale(self, stream: str, streams: tuple[str, ...], spread: Mapping[str, float]) -> float:
        """Return the scale of a stream's features: to a total variance of 1, and in joint models by its own strength."""
        own = self.tuned.get((stream,), 1.0) if len(streams) > 1 and self.balance == "alone" else 1.0
        return float(np.sqrt(own / spread[stream]))

    def _columns(self, rows: Observed) -> dict[str, NDArray[np.int64]]:
        """Return the indices of the features used by stream: all, or those with the most variance if there are too many."""
        width = {stream: rows.features[stream].shape[1] for stream in self.streams}
        total, most = sum(width.values()), max(1, self.weights // self.response.size)
        if total <= most:
            return {stream: np.arange(width[stream]) for stream in self.streams}
        power = {stream: _spread(rows.features[stream][rows.present[stream]]) for stream in self.streams}
        share = np.concatenate([variance / (variance.sum() or 1.0) for variance in power.values()])
        order = np.zeros(total, dtype=bool)
        order[np.argsort(-share, kind="stable")[:most]] = True
        ends = np.cumsum([len(variance) for variance in power.values()])[:-1]
        return {stream: np.flatnonzero(part) for stream, part in zip(power, np.split(order, ends), strict=True)}

    def _tune(
        self,
        streams: tuple[str, ...],
        projection: GramProjection,
        target: NDArray[Any],
        weight: Floats,
        known: Floats,
        load: float,
        seed: int,
    ) -> None:
        """Choose the strength of a set of streams by cross-validation (a single fold for large problems)."""
        if streams in self.tuned or (len(streams) > 1 and any(len(other) > 1 for other in self.tuned)):
            return
        tried = TOGETHER if len(streams) > 1 and self.balance == "alone" else DECADES
        if self.strength is not None:
            self.tuned[streams] = 1.0 if tried is TOGETHER else self.strength
            return
        few = _part(self.response, target, TRIED / load, seed)
        x, target, weight = projection.x[few], target[few], weight[few]
        fold = folds(self.response, target, FOLDS, seed)
        # Large problems use a single held-out fold.
        held = range(FOLDS) if load <= TRIED / FOLDS or projection.factor is not None else range(1)
        self.tuned[streams], _ = chosen(self.response, x, target, weight, known, fold, held, tried)

    # ── answering ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        fitted = [i for i in range(len(self.sets) - 1) if len(getattr(self, f"bias_{i}"))]
        which = route_rows(self.streams, [*(self.sets[i] for i in fitted), ()], present)
        out = self.prior.expand(len(which), -1).clone()
        for number, place in enumerate(fitted):
            index = (which == number).nonzero()[:, 0]
            if len(index):
                # Computed for all rows, so that results do not depend on which streams the other rows of a batch have.
                x = torch.cat([self._used(stream, features[stream]) for stream in self.sets[place]], dim=1)
                raw = _product(x.to(self.prior), getattr(self, f"weight_{place}")) + getattr(self, f"bias_{place}")
                out[index] = answered(self.response, raw[index], self.prior)
        return out

    def _used(self, stream: str, features: Tensor) -> Tensor:
        columns: Tensor = getattr(self, f"columns_{self.streams.index(stream)}")
        return features if len(columns) == features.shape[1] else features[:, columns]


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight`` ``[B, K]``, computed with the columns padded to a multiple of ``LANES``.

    With few columns, kernels sum the last rows of a batch in a different order than the first, so a row's answer would
    depend on its position; with full vector registers they do not.
    """
    columns = weight.shape[1]
    return (x @ nn.functional.pad(weight, (0, -columns % LANES)))[:, :columns]


def _block(features: Any, columns: NDArray[np.int64]) -> Any:
    return features if len(columns) == features.shape[1] else features[:, columns]


def _filled(part: Any) -> int:
    """Return the number of values of a block, or of non-zero values if it is sparse."""
    return max(1, int(getattr(part, "nnz", part.shape[0] * part.shape[1])))


def _spread(part: Any) -> Floats:
    """Return the variance of every column."""
    rows = max(1, part.shape[0])
    mean = np.asarray(part.sum(axis=0, dtype=np.float64)).ravel() / rows
    if isinstance(part, np.ndarray):
        variance: Floats = np.square(part - mean).sum(axis=0, dtype=np.float64) / rows
        return variance
    square = np.asarray(part.multiply(part).sum(axis=0, dtype=np.float64)).ravel() / rows
    spread: Floats = np.maximum(square - mean**2, 0.0)
    return spread


def _power(part: Any) -> float:
    """Return the total variance of all columns."""
    return float(_spread(part).sum()) if part.shape[0] else 0.0


def _part(response: Response, target: NDArray[Any], share: float, seed: int) -> NDArray[Any] | slice:
    """Return a stratified subsample of about this share of the rows; all if it is 1 or more."""
    if share >= 1:
        return slice(None)
    return np.flatnonzero(folds(response, target, int(np.ceil(1 / share)), seed) == 0)

"""A regularised linear model over the features of all streams together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.coalitions import coalitions, routed
from sensorium.core.expert import Expert, Observed, Response
from sensorium.core.registry import component
from sensorium.nn.convex import STRENGTHS, Floats, Head, Solver, answered, chosen, fits, folds, prior

FEWEST = 10
"""A set of streams that fewer rows have is not fitted: they are answered from a smaller set."""
FOLDS = 4
TRIED, FITTED = 2e7, 3e8
"""How many numbers that are not zero, times classes, the strength is chosen on, and a head is fitted on; beyond, on a part
of the rows. A step of the solver takes about two seconds per 1e9."""
HEADS = 4
"""How many times the work, or the weights, of the first head those of sets between all streams and one may add."""
SINGLE = 2e7
"""From so many numbers on, the solver sees them in single precision."""


@component
class Linear(Expert):
    """A regularised linear model over the features of all streams: hard to beat where rows are few.

    Logistic regression (classes, labels), the proportional-odds model (ordered classes), ridge regression (numbers). Every
    set of streams has a model of its own, fitted on the rows that have all of the set; a row is answered by that of the
    largest set it has. A set with fewer than ten rows, or whose rows all say the same, has none. The features of each
    stream are brought to one total variance before they share a penalty.
    Source: Li & Lin, Ordinal regression by extended binary classification, NeurIPS 2006 (ordered classes).

    Args:
        strength: How far the data may pull the weights, the C of scikit-learn; none: chosen by four folds on the largest
            set, and for each stream alone.
        blocks: ``even``: streams share the penalty as equals; ``given``: by the variance that their features come with;
            none: chosen with ``strength``.
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
        blocks: Literal["even", "given"] | None = None,
        weights: int = 2_000_000,
    ) -> None:
        super().__init__(response, streams)
        if strength is not None and strength <= 0:
            raise ValueError(f"strength must be above 0, not {strength}")
        self.strength, self.blocks, self.weights = strength, blocks, weights
        self.sets = coalitions(self.streams)
        self.tuned: dict[tuple[str, ...], tuple[float, str]] = {}
        """By set of streams, the strength and the balance that were chosen."""
        self.settled: Mapping[tuple[str, ...], tuple[float, str]] = {}
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
        tuned = self.tuned = dict(self.settled)
        work = size = 0.0
        # All streams first, then each alone, then the sets between: these give way where time or room is short.
        order = sorted(range(len(self.sets) - 1), key=lambda i: {len(self.streams): 0, 1: 1}.get(len(self.sets[i]), 2))
        for place in order:
            some = self.sets[place]
            index = np.flatnonzero(np.all([rows.present[stream] for stream in some], axis=0))
            found = sum(len(columns[stream]) for stream in some)
            if len(index) < FEWEST or not found or not fits(self.response, rows.target[index]):
                continue
            parts = [_block(rows.features[stream], index, columns[stream]) for stream in some]
            load = sum(_filled(part) for part in parts) * self.response.size
            wide = sum(part.shape[1] for part in parts) * self.response.size
            if 1 < len(some) < len(self.streams):
                work, size = work + min(load, FITTED), size + wide
                if work > HEADS * FITTED or size > HEADS * self.weights:
                    continue
            target, weight = rows.target[index], rows.weight[index]
            like = some if len(some) == 1 else next((other for other in tuned if len(other) > 1), some)
            if like not in tuned:
                tuned[like] = self._tuned(parts, target, weight, known, load, seed)
            strength, blocks = tuned[like]
            few = _part(self.response, target, FITTED / load, seed)
            parts, target, weight = [part[few] for part in parts], target[few], weight[few]
            x, centres, scales = _joined(parts, blocks)
            self._keep_head(place, Solver(self.response, known).fit(x, target, weight, strength), centres, scales)

    def _columns(self, rows: Observed) -> dict[str, NDArray[np.int64]]:
        """By stream the features that are used: all, or those that vary most where there are too many."""
        power = {stream: _spread(rows.features[stream][rows.present[stream]])[1] for stream in self.streams}
        total, most = sum(map(len, power.values())), max(1, self.weights // self.response.size)
        if total <= most:
            return {stream: np.arange(len(power[stream])) for stream in self.streams}
        share = np.concatenate([each / (each.sum() or 1.0) for each in power.values()])
        order = np.zeros(total, dtype=bool)
        order[np.argsort(-share, kind="stable")[:most]] = True
        ends = np.cumsum([len(each) for each in power.values()])[:-1]
        return {stream: np.flatnonzero(part) for stream, part in zip(power, np.split(order, ends), strict=True)}

    def _tuned(
        self, parts: list[Any], target: NDArray[Any], weight: Floats, known: Floats, load: float, seed: int
    ) -> tuple[float, str]:
        """The strength and the balance of the streams, by folds (one of them held out where there is much to do)."""
        if self.strength is not None and (self.blocks is not None or len(parts) == 1):
            return self.strength, self.blocks or "even"
        few = _part(self.response, target, TRIED / load, seed)
        parts, target, weight = [part[few] for part in parts], target[few], weight[few]
        fold = folds(self.response, target, FOLDS, seed)
        # Where there is much to do, one fold is held out and whole decades are tried.
        held, tried = (range(FOLDS), STRENGTHS) if load <= TRIED / FOLDS else (range(1), STRENGTHS[::2])
        found: list[tuple[float, float, str]] = []
        for blocks in ("even", "given") if self.blocks is None and len(parts) > 1 else (self.blocks or "even",):
            strengths = tried if self.strength is None else (self.strength,)
            if found and self.strength is None:  # those near the best of the first balance
                at = STRENGTHS.index(found[0][1])
                strengths = STRENGTHS[max(at - 1, 0) : at + 3]
            x = _joined(parts, blocks)[0]
            best, least = chosen(self.response, x, target, weight, known, fold, held, strengths)
            found.append((least, best, blocks))
        _, strength, blocks = min(found, key=lambda each: each[0])
        return strength, blocks

    def _keep_head(self, place: int, head: Head, centres: list[Floats], scales: list[float]) -> None:
        """The head of raw features: scales and centres are folded into it."""
        each = np.concatenate([np.full(len(centre), scale) for centre, scale in zip(centres, scales, strict=True)])
        weight = head.weight * each[:, None]
        self.keep(f"weight_{place}", torch.from_numpy(weight))
        self.keep(f"bias_{place}", torch.from_numpy(head.bias - np.concatenate(centres) @ weight))

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
                raw = x.to(self.prior) @ getattr(self, f"weight_{place}") + getattr(self, f"bias_{place}")
                out[index] = answered(self.response, raw[index], self.prior)
        return out

    def _used(self, stream: str, features: Tensor) -> Tensor:
        columns: Tensor = getattr(self, f"columns_{self.streams.index(stream)}")
        return features if len(columns) == features.shape[1] else features[:, columns]


def _block(features: Any, index: NDArray[Any], columns: NDArray[np.int64]) -> Any:
    some = features[index]
    return some if len(columns) == features.shape[1] else some[:, columns]


def _filled(part: Any) -> int:
    """How many numbers a block holds: of a sparse one those that are not zero."""
    return max(1, int(getattr(part, "nnz", part.shape[0] * part.shape[1])))


def _spread(part: Any) -> tuple[Floats, Floats]:
    """Mean and variance of every column."""
    rows = max(1, part.shape[0])
    mean = np.asarray(part.sum(axis=0, dtype=np.float64)).ravel() / rows
    if isinstance(part, np.ndarray):
        return mean, np.square(part - mean).sum(axis=0, dtype=np.float64) / rows
    square = np.asarray(part.multiply(part).sum(axis=0, dtype=np.float64)).ravel() / rows
    return mean, np.maximum(square - mean**2, 0.0)


def _joined(parts: list[Any], blocks: str) -> tuple[Any, list[Floats], list[float]]:
    """Blocks side by side, scaled, and the dense ones centred; with their centres and scales."""
    from scipy import sparse

    spreads = [_spread(part) for part in parts]
    totals = np.array([max(float(power.sum()), 1e-12) for _, power in spreads])
    # Either way the total variance is the number of streams, so that a strength means the same.
    scales = [float(s) for s in (totals**-0.5 if blocks == "even" else np.full(len(parts), (totals.mean()) ** -0.5))]
    dense = [isinstance(part, np.ndarray) for part in parts]
    centres = [mean if full else np.zeros_like(mean) for (mean, _), full in zip(spreads, dense, strict=True)]
    kind = np.float32 if sum(map(_filled, parts)) > SINGLE else np.float64
    made = [
        ((part - centre) * scale).astype(kind) if full else (part * scale).astype(kind)
        for part, centre, scale, full in zip(parts, centres, scales, dense, strict=True)
    ]
    x = np.concatenate(made, axis=1) if all(dense) else sparse.hstack(made, format="csr", dtype=kind)
    return x, centres, scales


def _part(response: Response, target: NDArray[Any], share: float, seed: int) -> NDArray[Any] | slice:
    """About this share of the rows, of each class alike; all where it is 1 or more."""
    if share >= 1:
        return slice(None)
    return np.flatnonzero(folds(response, target, int(np.ceil(1 / share)), seed) == 0)

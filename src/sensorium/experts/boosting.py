"""Gradient-boosted trees on compact features of all streams."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.expert import Observed, Response
from sensorium.core.layout import Layout, Row
from sensorium.core.registry import component
from sensorium.nn.linear_solvers import Floats, answered, fits, folds, loss
from sensorium.nn.quantile_bins import binned, unbinned
from sensorium.nn.survival_likelihood import exposed
from sensorium.nn.tree_ensemble import Trees, boosted, evaluated
from sensorium.nn.tree_expert import TreeExpert

FOLDS = 3
STEP = 20
"""Iterations between two evaluations on the folds; boosting stops after two evaluations without improvement."""
WORK = 1e10
"""Maximum rows × features × classes × iterations of a fit, about two minutes; beyond it, iterations are cut, then rows."""
LEAST = 20
"""Minimum number of iterations; below it, rows are cut instead."""


@component
class Boosting(TreeExpert):
    """Gradient-boosted trees, usually the strongest model for wide tables.

    Complements ``linear``, which models no interactions; needs more rows than ``forest``. Separate models are fitted for
    all streams, for all but one and for each alone; a row is predicted by the model of the largest set of streams it has.
    The number of iterations is chosen by three-fold cross-validation. All models together stay below 30 MB.
    Source: Friedman, Greedy function approximation, Annals of Statistics 2001; Ke et al., LightGBM, NeurIPS 2017.

    Args:
        iterations: Maximum number of trees for each class.
        rate: Learning rate.
        leaves: Maximum number of leaves of a tree.
        leaf: Minimum number of rows in a leaf.
        penalty: L2 regularisation of the leaf values.
    """

    cost = (
        "time grows with rows, features, classes and iterations, times four for cross-validation: a minute for thousands "
        "of rows and few classes; a few minutes at most for each set of streams, beyond which iterations and then rows are "
        "reduced; up to 30 MB"
    )

    def __init__(
        self,
        response: Response,
        streams: Sequence[str],
        *,
        iterations: int = 200,
        rate: float = 0.06,
        leaves: int = 12,
        leaf: int = 10,
        penalty: float = 1.0,
    ) -> None:
        super().__init__(response, streams)
        if leaves < 2:
            raise ValueError(f"leaves must be at least 2, not {leaves}")
        if rate <= 0 or penalty < 0:
            raise ValueError(f"rate must be above 0 and penalty at least 0, not {rate} and {penalty}")
        self.iterations, self.rate, self.leaves, self.leaf, self.penalty = iterations, rate, leaves, leaf, penalty
        self.tuned: dict[tuple[str, ...], int] = {}
        """The chosen number of iterations, by set of streams; all sets of several streams share one."""
        self.settled: Mapping[tuple[str, ...], int] = {}

    @classmethod
    def suits(cls, rows: int, layouts: Mapping[str, Layout]) -> bool:
        """Return whether all ``layouts`` are tabular and the number of ``rows`` is between 200 and 20,000.

        With text it was twenty times slower than other experts and no more accurate (petfinder, mustard).
        """
        return 200 <= rows <= 20_000 and all(isinstance(layout, Row) for layout in layouts.values())

    def like(self, other: Self) -> None:
        self.settled = other.tuned

    def fit(self, rows: Observed, seed: int) -> None:
        self.tuned = dict(self.settled)
        super().fit(rows, seed)

    def grown(self, some: tuple[str, ...], x: NDArray[np.float32], y: NDArray[Any], weight: Floats, seed: int) -> Trees:
        size = self.response.size
        once = len(x) * x.shape[1] * size
        room = int(self.bytes / (size * self.leaves * 2 * 17))
        most = max(1, min(self.iterations, room, max(LEAST, int(WORK / once))))
        if once * most > WORK:
            few = folds(self.response, y, math.ceil(once * most / WORK), seed) == 0
            x, y, weight = x[few], y[few], weight[few]
        # scikit-learn bins weighted rows quantile by quantile in every fit, at many times the cost of the trees.
        bins, cuts = binned(x)
        like = some if len(some) == 1 else next((other for other in self.tuned if len(other) > 1), some)
        if like not in self.tuned:
            self.tuned[like] = self._enough(bins, y, weight, most, seed)
        iterations = self.tuned[like]
        *_, trees = self._grown(bins, y, weight, [min(iterations, most)], seed)
        return unbinned(trees, cuts)

    def _enough(self, x: NDArray[np.float32], y: NDArray[Any], weight: Floats, most: int, seed: int) -> int:
        """Return the number of iterations with the least loss on the held-out rows of all folds."""
        fold = folds(self.response, y, FOLDS, seed)
        held = [k for k in range(FOLDS) if fits(self.response, y[fold != k])]
        looks = list(range(min(STEP, most), most + 1, STEP))
        growing = [self._grown(x[fold != k], y[fold != k], weight[fold != k], looks, seed) for k in held]
        best, least = looks[0], np.inf
        for look, *made in zip(looks, *growing, strict=False):
            total = 0.0
            for k, trees in zip(held, made, strict=True):
                own = fold == k
                scores = self.answered(evaluated(trees, torch.from_numpy(x[own])))
                total += loss(self.response, scores, torch.from_numpy(y[own]), torch.from_numpy(weight[own]))
            if total < least:
                best, least = look, total
            elif look >= best + 2 * STEP:
                break
        return best

    def _grown(
        self, x: NDArray[np.float32], y: NDArray[Any], weight: Floats, looks: Sequence[int], seed: int
    ) -> Iterator[Trees]:
        """Yield the trees after each number of iterations in ``looks``."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        # scikit-learn fails on a column of NaN only; a constant column is harmless.
        x = np.where(np.isnan(x).all(axis=0), np.float32(0), x)
        numbers = self.response.kind in ("number", "risk")
        if self.response.kind == "risk":
            y, weight = exposed(y, weight)
        targets = list(y.T) if self.response.kind == "labels" else [y]
        fitted = [i for i, target in enumerate(targets) if target.min() != target.max()]
        kind = HistGradientBoostingRegressor if numbers else HistGradientBoostingClassifier
        aim = {"loss": "poisson"} if self.response.kind == "risk" else {}
        models = [
            kind(
                learning_rate=self.rate, max_leaf_nodes=self.leaves, min_samples_leaf=self.leaf,
                l2_regularization=self.penalty, early_stopping=False, warm_start=True, random_state=seed, **aim,
            )
            for _ in fitted
        ]  # fmt: skip
        for look in looks:
            for i, model in zip(fitted, models, strict=True):
                target = targets[i] if numbers else targets[i].astype(np.int64)
                model.set_params(max_iter=look).fit(x, target, sample_weight=weight)
            yield self._taken(models, fitted, x)

    def _taken(self, models: list[Any], fitted: list[int], x: NDArray[np.float32]) -> Trees:
        if self.response.kind in ("number", "risk"):
            return boosted(models, [[0]], np.zeros(1))
        if self.response.kind == "labels":
            base = self.prior.double().numpy().copy()
            base[fitted] = 0.0
            return boosted(models, [[i] for i in fitted], base)
        trained_classes = models[0].classes_
        trees = boosted(
            models, [trained_classes[1:] if len(trained_classes) == 2 else trained_classes], np.zeros(self.response.size)
        )
        other_classes = np.setdiff1d(np.arange(self.response.size), trained_classes)
        if len(other_classes):  # classes without training rows get their prior probability for an average row
            logits = evaluated(trees, torch.from_numpy(x))[:, trained_classes]
            trees.base[other_classes] = float(logits.logsumexp(dim=1).mean()) + self.prior[other_classes]
        return trees

    def answered(self, raw: Tensor) -> Tensor:
        return answered(self.response, raw, self.prior) if self.response.kind != "ordered" else raw.log_softmax(dim=1)

"""Extremely randomised trees on compact features of all streams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.expert import Response
from sensorium.core.registry import component
from sensorium.nn.linear_solvers import Floats, folds
from sensorium.nn.survival_likelihood import exposed
from sensorium.nn.tree_ensemble import Trees, forest
from sensorium.nn.tree_expert import TreeExpert

ROWS = 50_000
"""Maximum number of rows that trees are grown on; larger tables are subsampled by class."""
FEW = 30
"""Minimum number of trees kept within the size limit; below it, leaves grow instead."""


@component
class Forest(TreeExpert):
    """Extremely randomised trees: robust, fast, and good at interactions of a few features.

    Complements ``linear``, which models no interactions. Separate forests are grown for all streams, for all but one and
    for each alone; a row is predicted by the forest of the largest set of streams it has. All forests together stay below
    30 MB: with many rows and classes, leaves are larger and trees fewer.
    Source: Geurts, Ernst & Wehenkel, Extremely randomized trees, Machine Learning 2006.

    Args:
        trees: Number of trees.
        leaf: Minimum number of rows in a leaf.
        share: Share of features considered for a split; none: the square root of their number, or a third for regression.
        smoothing: Weight of the prior in every prediction, so that no class has probability 0.
    """

    cost = (
        "seconds for thousands of rows, a few minutes at most: grown on up to 50,000 rows, once for each set of streams; "
        "up to 30 MB"
    )

    def __init__(
        self,
        response: Response,
        streams: Sequence[str],
        *,
        trees: int = 100,
        leaf: int = 3,
        share: float | None = None,
        smoothing: float = 0.02,
    ) -> None:
        super().__init__(response, streams)
        if share is not None and not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {share}")
        if not 0 < smoothing < 1:
            raise ValueError(f"smoothing must be between 0 and 1, not {smoothing}")
        self.trees, self.leaf, self.share, self.smoothing = trees, leaf, share, smoothing

    def grown(self, some: tuple[str, ...], x: NDArray[np.float32], y: NDArray[Any], weight: Floats, seed: int) -> Trees:
        size = self.response.size
        if len(x) > ROWS:
            few = folds(self.response, y, math.ceil(len(x) / ROWS), seed) == 0
            x, y, weight = x[few], y[few], weight[few]
        leaf_bytes = 2 * 17 + 4 * size  # of a leaf and the node above it
        leaf = max(self.leaf, math.ceil(min(FEW, self.trees) * len(x) * leaf_bytes / self.bytes))
        trees = max(1, min(self.trees, int(self.bytes * leaf / (len(x) * leaf_bytes))))
        grow = partial(_estimators, x, count=trees, seed=seed, min_samples_leaf=leaf)
        if self.response.kind in ("classes", "ordered"):
            columns, y = np.unique(y, return_inverse=True)
            # Two classes: the squared error of the second is half the Gini index, and faster.
            binary = len(columns) == 2
            classifiers = grow("regressor" if binary else "classifier", y, weight, max_features=self.share or "sqrt")

            def shares(value: NDArray[Any]) -> NDArray[Any]:
                all_classes = np.zeros((len(value), size))
                shown = np.concatenate([1 - value[:, 0], value[:, 0]], axis=1) if binary else value[:, 0]
                all_classes[:, columns] = shown / shown.sum(axis=1, keepdims=True)
                return all_classes

            return forest(classifiers, shares, size)
        if self.response.kind == "risk":
            rate, exposure = exposed(y, weight)
            grown = grow("regressor", rate, exposure, max_features=self.share or 1 / 3, criterion="poisson")
            return forest(grown, lambda value: value[:, :, 0], size)
        target = y.astype(np.float64)  # for labels, the mean is the frequency and the squared error the Gini index
        shallow = self.share or (1 / 3 if self.response.kind == "number" else "sqrt")
        return forest(grow("regressor", target, weight, max_features=shallow), lambda value: value[:, :, 0], size)

    def answered(self, raw: Tensor) -> Tensor:
        known = self.prior.double()
        if self.response.kind == "number":
            return (1 - self.smoothing) * raw + self.smoothing * known
        if self.response.kind == "labels":
            return ((1 - self.smoothing) * raw + self.smoothing * known.sigmoid()).logit()
        return ((1 - self.smoothing) * raw + self.smoothing * known.exp()).log()


def _estimators(
    x: NDArray[np.float32],
    kind: Literal["classifier", "regressor"],
    y: NDArray[Any],
    weight: Floats,
    *,
    count: int,
    seed: int,
    **options: Any,
) -> list[Any]:
    """Grow the trees of scikit-learn's ``ExtraTreesClassifier`` or ``ExtraTreesRegressor``, one by one.

    The same trees: the forest itself clones a prototype and validates options and targets for each of them, which takes
    up to a quarter of the time with a few hundred rows.
    """
    from sklearn import config_context
    from sklearn.tree import ExtraTreeClassifier, ExtraTreeRegressor

    make = ExtraTreeClassifier if kind == "classifier" else ExtraTreeRegressor
    draw = np.random.RandomState(seed)
    seeds = [draw.randint(np.iinfo(np.int32).max) for _ in range(count)]
    target = np.ascontiguousarray(y.reshape(len(y), -1), dtype=np.float64)
    unknown = bool(np.isnan(x).any())  # unchecked input is taken for complete
    with config_context(skip_parameter_validation=True):
        return [
            make(random_state=own, **options).fit(x, target, sample_weight=weight, check_input=unknown) for own in seeds
        ]

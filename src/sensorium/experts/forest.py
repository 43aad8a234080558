"""Extremely randomised trees on compact features of all streams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        size = self.response.size
        if len(x) > ROWS:
            few = folds(self.response, y, math.ceil(len(x) / ROWS), seed) == 0
            x, y, weight = x[few], y[few], weight[few]
        leaf_bytes = 2 * 17 + 4 * size  # of a leaf and the node above it
        leaf = max(self.leaf, math.ceil(min(FEW, self.trees) * len(x) * leaf_bytes / self.bytes))
        trees = max(1, min(self.trees, int(self.bytes * leaf / (len(x) * leaf_bytes))))
        common = {"n_estimators": trees, "min_samples_leaf": leaf, "random_state": seed}
        if self.response.kind in ("classes", "ordered"):
            classifier = ExtraTreesClassifier(max_features=self.share or "sqrt", **common).fit(x, y, sample_weight=weight)
            columns = classifier.classes_

            def shares(value: NDArray[Any]) -> NDArray[Any]:
                all_classes = np.zeros((len(value), size))
                all_classes[:, columns] = value[:, 0] / value[:, 0].sum(axis=1, keepdims=True)
                return all_classes

            return forest(classifier, shares, size)
        if self.response.kind == "risk":
            rate, exposure = exposed(y, weight)
            grown = ExtraTreesRegressor(max_features=self.share or 1 / 3, criterion="poisson", **common)
            return forest(grown.fit(x, rate, sample_weight=exposure), lambda value: value[:, :, 0], size)
        target = y.astype(np.float64)  # for labels, the mean is the frequency and the squared error the Gini index
        shallow = self.share or (1 / 3 if self.response.kind == "number" else "sqrt")
        regressor = ExtraTreesRegressor(max_features=shallow, **common)
        regressor.fit(x, target[:, 0] if target.ndim == 2 and size == 1 else target, sample_weight=weight)
        return forest(regressor, lambda value: value[:, :, 0], size)

    def answered(self, raw: Tensor) -> Tensor:
        known = self.prior.double()
        if self.response.kind == "number":
            return (1 - self.smoothing) * raw + self.smoothing * known
        if self.response.kind == "labels":
            return ((1 - self.smoothing) * raw + self.smoothing * known.sigmoid()).logit()
        return ((1 - self.smoothing) * raw + self.smoothing * known.exp()).log()

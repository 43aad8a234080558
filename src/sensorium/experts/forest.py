"""Extremely randomised trees over a compact reading of all streams."""

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
"""The most rows that trees are grown on; of more, so many, of each class alike."""
FEW = 30
"""Where all cannot be kept, at least so many trees are, with larger leaves."""


@component
class Forest(TreeExpert):
    """The mean of many trees that split at random: robust, quick, and good where what matters is a few cells together.

    Take it beside ``linear``, which sees no interactions. Trees are grown for all streams, for all but one, and for each
    alone; a row is answered by those of the largest set it has. All of them together stay below 30 MB: where rows and
    classes are many, leaves grow larger and trees fewer.
    Source: Geurts, Ernst & Wehenkel, Extremely randomized trees, Machine Learning 2006.

    Args:
        trees: How many trees.
        leaf: The fewest rows in a leaf.
        share: The share of all cells that a split chooses from; none: the square root of their number, for numbers a third.
        smoothing: The share of what is known of the targets alone in every answer, so that no class is impossible.
    """

    cost = (
        "seconds for thousands of rows, some minutes at most: it grows on up to 50,000 rows, once for each set of streams; "
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
        each = 2 * 17 + 4 * size  # bytes of a leaf and the node above it
        leaf = max(self.leaf, math.ceil(min(FEW, self.trees) * len(x) * each / self.bytes))
        trees = max(1, min(self.trees, int(self.bytes * leaf / (len(x) * each))))
        common = {"n_estimators": trees, "min_samples_leaf": leaf, "random_state": seed}
        if self.response.kind in ("classes", "ordered"):
            classifier = ExtraTreesClassifier(max_features=self.share or "sqrt", **common).fit(x, y, sample_weight=weight)
            columns = classifier.classes_

            def shares(value: NDArray[Any]) -> NDArray[Any]:
                whole = np.zeros((len(value), size))
                whole[:, columns] = value[:, 0] / value[:, 0].sum(axis=1, keepdims=True)
                return whole

            return forest(classifier, shares, size)
        if self.response.kind == "risk":
            rate, exposure = exposed(y, weight)
            grown = ExtraTreesRegressor(max_features=self.share or 1 / 3, criterion="poisson", **common)
            return forest(grown.fit(x, rate, sample_weight=exposure), lambda value: value[:, :, 0], size)
        target = y.astype(np.float64)  # of labels the mean is the share, and the squared error Gini's index
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

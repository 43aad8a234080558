"""Tree ensembles as flat tensors: converted from fitted scikit-learn models, evaluated in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROWS = 4_000_000
"""Largest block of numbers (rows × trees × outputs) evaluated at a time."""


class Trees(NamedTuple):
    """Nodes of all trees, concatenated ``[N]``; nodes with ``feature`` -1 are leaves.

    Args:
        feature: ``[N]`` int32: column that a node tests.
        threshold: ``[N]`` float32: a row goes left if its value is at or below it.
        left: ``[N]`` int32: left child; for a leaf, its index in ``value``.
        right: ``[N]`` int32: right child.
        missing_left: ``[N]`` bool: whether NaN goes left.
        value: ``[leaves, K]`` float32, or ``[leaves, 1]`` where each tree has one output.
        root: ``[T]`` int32.
        output: ``[T]`` int32: output of each tree, where each has one; else empty.
        base: ``[K]`` float32: constant added to the sum.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    missing_left: Tensor
    value: Tensor
    root: Tensor
    output: Tensor
    base: Tensor


TYPES = {
    "feature": torch.int32,
    "threshold": torch.float32,
    "left": torch.int32,
    "right": torch.int32,
    "missing_left": torch.bool,
    "value": torch.float32,
    "root": torch.int32,
    "output": torch.int32,
    "base": torch.float32,
}


def check_trees(trees: Trees) -> None:
    """Validate ``trees``; raise ``ValueError`` for missing nodes or cycles.

    Children must come after their parent, as scikit-learn numbers them.
    """
    count, leaves, outputs = len(trees.feature), len(trees.value), len(trees.base)
    alike = (trees.threshold, trees.left, trees.right, trees.missing_left)
    if any(len(part) != count for part in alike) or len(trees.output) not in (0, len(trees.root)):
        raise ValueError("its trees have parts of different length")
    place = torch.arange(count)
    inner = trees.feature >= 0
    for child in (trees.left[inner], trees.right[inner]):
        if not bool(((child > place[inner]) & (child < count)).all()):
            raise ValueError("its trees have a branch that leads nowhere, or back")
    for index, most in ((trees.left[~inner], leaves), (trees.root, count), (trees.output, outputs)):
        if not bool(((index >= 0) & (index < most)).all()):
            raise ValueError("its trees have a leaf, a root or an output that is not there")


def evaluated(trees: Trees, rows: Tensor) -> Tensor:
    """Return the sum of all ``trees`` plus the base ``[B, K]`` float64, for ``rows`` ``[B, F]`` float32, NaN where
    missing.
    """
    width = len(trees.root) * trees.value.shape[1]
    parts = torch.split(rows, max(1, ROWS // max(1, width)))
    return torch.cat([_some(trees, part) for part in parts]) if len(rows) else trees.base.double().expand(0, -1)


def _some(trees: Trees, rows: Tensor) -> Tensor:
    # ``take`` of flat indices is faster than indexing.
    flat, start = rows.reshape(-1), torch.arange(len(rows), device=rows.device).unsqueeze(1) * rows.shape[1]
    incomplete = bool(rows.isnan().any())
    node = trees.root.long().expand(len(rows), -1)  # [B, T]
    while True:
        feature = trees.feature.take(node).long()
        inner = feature >= 0
        if not bool(inner.any()):
            break
        cell = flat.take(feature.clamp_(min=0).add_(start))
        left = cell <= trees.threshold.take(node)
        if incomplete:
            left = torch.where(cell.isnan(), trees.missing_left.take(node), left)
        child = torch.where(left, trees.left.take(node), trees.right.take(node))
        node = torch.where(inner, child.long(), node)
    leaf = trees.left.take(node)
    leaves = trees.value.index_select(0, leaf.view(-1)).view(*leaf.shape, -1).double()  # [B, T, K]
    base = trees.base.double().expand(len(rows), -1)
    if len(trees.output):
        return base.index_add(1, trees.output.long(), leaves[..., 0])
    return base + leaves.sum(dim=1)


# ── conversion from scikit-learn ───────────────────────────────────────────────────────────────────────────────────────


class _Nodes(NamedTuple):
    """Nodes of one tree, numbered within it; ``value`` has a row for every node."""

    feature: NDArray[Any]
    threshold: NDArray[Any]
    left: NDArray[Any]
    right: NDArray[Any]
    missing_left: NDArray[Any]
    value: NDArray[Any]


def forest(estimators: Sequence[Any], value: Callable[[NDArray[Any]], NDArray[Any]], outputs: int) -> Trees:
    """Convert the trees of a scikit-learn forest, whose prediction is their mean.

    Args:
        estimators: Fitted trees, ``estimators_`` of a forest; they split float32 numbers.
        value: Function from ``tree_.value`` ``[nodes, outputs, classes]`` to predictions ``[nodes, K]``.
        outputs: ``K``.
    """
    trees = []
    for estimator in estimators:
        tree = estimator.tree_
        leaf = tree.children_left < 0
        says = value(tree.value) / len(estimators)
        trees.append(
            _Nodes(
                np.where(leaf, -1, tree.feature), tree.threshold, tree.children_left, tree.children_right,
                tree.missing_go_to_left.astype(bool), says,
            )
        )  # fmt: skip
    return _flat(trees, np.zeros(0), np.zeros(outputs))


def boosted(models: Sequence[Any], columns: Sequence[Sequence[int]], base: NDArray[Any]) -> Trees:
    """Convert scikit-learn gradient boosting models, whose trees are summed.

    Args:
        models: Fitted ``HistGradientBoostingClassifier`` or ``HistGradientBoostingRegressor``, without categorical columns.
        columns: For each model, the output of each tree of an iteration.
        base: Constant ``[K]``, in addition to the models' own baselines.
    """
    trees, output, start = [], [], np.array(base, dtype=np.float64)
    for model, own in zip(models, columns, strict=True):
        start[list(own)] += np.ravel(model._baseline_prediction)
        for iteration in model._predictors:
            for column, tree in zip(own, iteration, strict=True):
                nodes = tree.nodes
                leaf = nodes["is_leaf"].astype(bool)
                trees.append(
                    _Nodes(
                        np.where(leaf, -1, nodes["feature_idx"]), nodes["num_threshold"], nodes["left"], nodes["right"],
                        nodes["missing_go_to_left"].astype(bool), nodes["value"][:, None],
                    )
                )  # fmt: skip
                output.append(column)
    return _flat(trees, np.array(output), start)


def _flat(trees: Sequence[_Nodes], output: NDArray[Any], base: NDArray[Any]) -> Trees:
    sizes = np.array([len(tree.feature) for tree in trees])
    feature = np.concatenate([tree.feature for tree in trees])
    shift = np.repeat(np.cumsum(sizes) - sizes, sizes)
    leaf = feature < 0
    left = np.concatenate([tree.left for tree in trees]).astype(np.int64) + shift
    left[leaf] = np.arange(leaf.sum())
    right = np.concatenate([tree.right for tree in trees]).astype(np.int64) + shift
    right[leaf] = 0
    threshold = np.concatenate([tree.threshold for tree in trees]).astype(np.float64)
    parts = (
        feature,
        _rounded_down(np.where(leaf, 0.0, threshold)),
        left,
        right,
        np.concatenate([tree.missing_left for tree in trees]),
        np.concatenate([tree.value for tree in trees])[leaf],
        np.cumsum(sizes) - sizes,
        output,
        base,
    )
    return Trees(*(torch.from_numpy(np.asarray(x)).to(kind) for x, kind in zip(parts, TYPES.values(), strict=True)))


def _rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to float32 downwards, so that every float32 number compares to the threshold as before.

    scikit-learn's infinite threshold parts missing values from all others; the largest number does the same and may be
    stored, for a model file holds finite numbers only.
    """
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near).clip(max=np.finfo(np.float32).max)

"""Quantile binning of feature columns, so that boosting fitted many times on the same rows bins them once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sensorium.nn.tree_ensemble import Trees

BINS = 255
"""Bins of a column, missing values apart: as many as scikit-learn's gradient boosting keeps without binning anew."""


def binned(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Return the bin of each value of ``x`` ``[rows, F]`` as float32, NaN where missing, and the cuts of each column.

    A value lies in bin ``k`` or below if it is at or below cut ``k``. Columns of few distinct values are cut halfway
    between them, others at quantiles.
    """
    codes = np.full(x.shape, np.nan, dtype=np.float32)
    cuts = []
    for column in range(x.shape[1]):
        present = ~np.isnan(x[:, column])
        values = x[present, column]
        edges = _cuts(values)
        codes[present, column] = np.searchsorted(edges, values, side="left")
        cuts.append(edges)
    return codes, cuts


def _cuts(values: NDArray[np.float32]) -> NDArray[np.float32]:
    distinct = np.unique(values).astype(np.float64)
    if len(distinct) <= BINS:
        edges = (distinct[1:] + distinct[:-1]) / 2
    else:
        edges = np.percentile(values, np.linspace(0, 100, BINS + 1)[1:-1], method="averaged_inverted_cdf")
    near = edges.astype(np.float32)
    # Rounded down, a cut still lies at or above the value below it, which has single precision.
    return np.unique(np.where(near > edges, np.nextafter(near, np.float32(-np.inf)), near))


def unbinned(trees: Trees, cuts: Sequence[NDArray[np.float32]]) -> Trees:
    """Return ``trees`` fitted on the bins of columns as trees on their values.

    Args:
        trees: Trees whose thresholds lie between bins.
        cuts: The cuts of each column, from ``binned``.
    """
    sizes = np.array([len(edges) for edges in cuts])
    flat = np.concatenate([*cuts, np.zeros(1, dtype=np.float32)])
    feature = trees.feature.numpy()
    inner = feature >= 0
    threshold = trees.threshold.numpy().copy()
    bins, columns = threshold[inner].astype(np.float64), feature[inner]
    # A threshold above the last bin separates missing values from all others, and stays.
    finite = bins < sizes[columns]
    start = (np.cumsum(sizes) - sizes)[columns]
    places = np.where(finite, start + np.floor(np.where(finite, bins, 0.0)).astype(np.int64), len(flat) - 1)
    threshold[inner] = np.where(finite, flat[places], threshold[inner])
    return trees._replace(threshold=torch.from_numpy(threshold))

"""Trees fitted on bins are converted to trees on values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sensorium.nn.quantile_bins import BINS, binned, unbinned
from sensorium.nn.tree_ensemble import boosted, evaluated

ensemble = pytest.importorskip("sklearn.ensemble")


def rows(number: int, seed: int) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(number, 5)).astype(np.float32)
    x[:, 3] = np.round(x[:, 3])
    x[:, 4] = 2.0
    x[draw.random(x.shape) < 0.2] = np.nan
    return x


def test_bins_are_the_places_between_cuts() -> None:
    x = rows(2_000, 0)
    codes, cuts = binned(x)
    assert np.array_equal(np.isnan(codes), np.isnan(x))
    for column, edges in enumerate(cuts):
        values, places = x[:, column], codes[:, column]
        assert len(edges) < BINS
        assert (np.diff(edges) > 0).all()
        for k, edge in enumerate(edges):
            assert np.array_equal(values <= edge, places <= k)
    assert len(cuts[0]) == BINS - 1
    assert len(cuts[3]) == len(np.unique(x[:, 3][~np.isnan(x[:, 3])])) - 1
    assert len(cuts[4]) == 0
    sizes = np.bincount(codes[:, 0][~np.isnan(codes[:, 0])].astype(int))
    assert sizes.max() <= 2 * sizes.mean()


def test_neighbouring_numbers_are_kept_apart() -> None:
    """Halfway between two neighbours of single precision there is none."""
    low = np.float32(1.0)
    x = np.array([[low], [np.nextafter(low, np.float32(2))]])
    assert binned(x)[0].ravel().tolist() == [0.0, 1.0]


def test_few_values_give_the_trees_of_scikit_learn() -> None:
    x, new = rows(240, 0), rows(200, 1)
    y = np.nan_to_num(x[:, 0]) ** 2 + np.isnan(x[:, 1]) + np.nan_to_num(x[:, 3])
    codes, cuts = binned(x)
    models = [ensemble.HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(inputs, y) for inputs in (x, codes)]
    mine = unbinned(boosted(models[1:], [[0]], np.zeros(1)), cuts)
    np.testing.assert_allclose(
        evaluated(mine, torch.from_numpy(new))[:, 0].numpy(), models[0].predict(new), rtol=1e-6, atol=1e-6
    )


def test_predictions_from_values_and_bins_are_equal() -> None:
    x = rows(2_000, 2)
    codes, cuts = binned(x)
    y = (np.nan_to_num(x[:, 0]) + np.isnan(x[:, 1]) > 0.3).astype(int)
    model = ensemble.HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(codes, y, np.linspace(0.5, 2, len(y)))
    trees = boosted([model], [[0]], np.zeros(1))
    parts = any(np.isinf(tree.nodes["num_threshold"]).any() for trees in model._predictors for tree in trees)
    assert parts, "no node parts missing values from all others"
    on_values = evaluated(unbinned(trees, cuts), torch.from_numpy(x))
    assert torch.equal(on_values, evaluated(trees, torch.from_numpy(codes)))

"""Trees in flat arrays say what scikit-learn says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sensorium.core.expert import Response
from sensorium.experts.forest import Forest
from sensorium.nn import tree_ensemble as flat
from sensorium.nn.survival_likelihood import exposed
from sensorium.nn.tree_ensemble import Trees, boosted, evaluated, forest

ensemble = pytest.importorskip("sklearn.ensemble")


def rows(number: int, seed: int, *, missing: bool = True) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(number, 5)).astype(np.float32)
    x[:, 3] = np.round(x[:, 3])  # many rows stand exactly on a threshold
    if missing:
        x[draw.random(x.shape) < 0.2] = np.nan
    return x


def target(x: NDArray[np.float32], classes: int) -> NDArray[np.int64]:
    level = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 3]) + np.isnan(x[:, 1])
    return np.digitize(level, np.linspace(-1, 1.5, classes - 1))


def assert_near(ours: torch.Tensor, theirs: NDArray[Any]) -> None:
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("depth", [1, 3, None])
def test_a_forest_of_classes(depth: int | None, missing: bool) -> None:
    x, new = rows(200, 0, missing=missing), rows(150, 1)
    model = ensemble.ExtraTreesClassifier(n_estimators=20, max_depth=depth, random_state=0).fit(x, target(x, 3))
    ours = forest(model.estimators_, lambda value: value[:, 0] / value[:, 0].sum(axis=1, keepdims=True), 3)
    assert_near(evaluated(ours, torch.from_numpy(new)), model.predict_proba(new))


@pytest.mark.parametrize("depth", [2, None])
def test_a_forest_of_numbers_and_of_several_outputs(depth: int | None) -> None:
    x, new = rows(200, 0), rows(150, 1)
    both = np.stack([target(x, 5), np.nan_to_num(x[:, 2])], axis=1)
    for y in (both, both[:, 0]):
        model = ensemble.ExtraTreesRegressor(n_estimators=20, max_depth=depth, random_state=0).fit(x, y)
        ours = forest(model.estimators_, lambda value: value[:, :, 0], y[0].size)
        assert_near(evaluated(ours, torch.from_numpy(new)), model.predict(new).reshape(len(new), -1))


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize(("classes", "depth"), [(2, None), (2, 1), (4, None), (4, 3)])
def test_boosting_of_classes(classes: int, depth: int | None, missing: bool) -> None:
    x, new = rows(300, 0, missing=missing), rows(150, 1)
    model = ensemble.HistGradientBoostingClassifier(max_iter=15, max_depth=depth, random_state=0)
    model.fit(x, target(x, classes))
    ours = boosted([model], [range(classes) if classes > 2 else [0]], np.zeros(classes if classes > 2 else 1))
    raw = model.decision_function(new)
    assert_near(evaluated(ours, torch.from_numpy(new)), raw.reshape(len(new), -1))


def test_boosting_of_numbers() -> None:
    x, new = rows(300, 0), rows(150, 1)
    model = ensemble.HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(x, np.nan_to_num(x[:, 0]) ** 2)
    ours = boosted([model], [[0]], np.zeros(1))
    assert_near(evaluated(ours, torch.from_numpy(new)), model.predict(new)[:, None])


def test_split_by_missingness_is_finite() -> None:
    """scikit-learn's threshold is infinite where a node parts the missing values from all others."""
    x = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    x[::2, 0] = np.nan
    y = np.isnan(x[:, 0]).astype(float)
    boosting = ensemble.HistGradientBoostingRegressor(max_iter=3, random_state=0).fit(x, y)
    assert any(np.isinf(tree.nodes["num_threshold"]).any() for trees in boosting._predictors for tree in trees)
    extra = ensemble.ExtraTreesRegressor(n_estimators=5, random_state=0).fit(x, y)
    for ours, theirs in (
        (boosted([boosting], [[0]], np.zeros(1)), boosting),
        (forest(extra.estimators_, lambda v: v[:, :, 0], 1), extra),
    ):
        assert bool(ours.threshold.isfinite().all())
        assert_near(evaluated(ours, torch.from_numpy(x)), theirs.predict(x)[:, None])


def test_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(200, 0)
    model = ensemble.ExtraTreesRegressor(n_estimators=10, random_state=0).fit(x, target(x, 5))
    ours = forest(model.estimators_, lambda value: value[:, :, 0], 1)
    whole = evaluated(ours, torch.from_numpy(x))
    monkeypatch.setattr(flat, "ROWS", 70)  # seven rows at a time
    assert torch.equal(evaluated(ours, torch.from_numpy(x)), whole)


def test_no_rows() -> None:
    model = ensemble.ExtraTreesRegressor(n_estimators=2, random_state=0).fit(rows(50, 0), target(rows(50, 0), 3))
    assert evaluated(forest(model.estimators_, lambda value: value[:, :, 0], 1), torch.zeros(0, 5)).shape == (0, 1)


def test_a_number_on_the_threshold_goes_left_and_just_above_goes_right() -> None:
    """A threshold of double precision between two numbers of single precision parts them as it did."""
    x = np.array([[1.0], [np.nextafter(np.float32(1), np.float32(2))]], dtype=np.float32)
    model = ensemble.ExtraTreesRegressor(n_estimators=5, random_state=0).fit(
        np.repeat(x, 20, axis=0), np.repeat([0, 1], 20)
    )
    ours: Trees = forest(model.estimators_, lambda value: value[:, :, 0], 1)
    assert_near(evaluated(ours, torch.from_numpy(x)), model.predict(x)[:, None])


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize(
    ("kind", "classes"), [("classes", 2), ("classes", 4), ("ordered", 4), ("number", 1), ("labels", 2), ("risk", 1)]
)
def test_the_forest_expert_grows_the_trees_of_scikit_learn(kind: Any, classes: int, missing: bool) -> None:
    x, new = rows(200, 0, missing=missing), rows(150, 1, missing=missing)
    y: NDArray[Any] = target(x, max(classes, 2))
    weight = np.random.default_rng(2).uniform(0.5, 2, len(x))
    if kind == "number":
        y = y + np.nan_to_num(x[:, 2])
    elif kind == "risk":
        y = np.stack([1.0 + y, np.nan_to_num(x[:, 2]) > 0], axis=1)
    elif kind == "labels":
        y = np.stack([y == 1, np.nan_to_num(x[:, 2]) > 0], axis=1).astype(float)
    # Two classes are regressed on: rounding decides where two splits gain as much, so only many trees say the same.
    alike = (kind, classes) != ("classes", 2)
    trees = 20 if alike else 300
    options = {"n_estimators": trees, "min_samples_leaf": 3, "random_state": 5}
    if kind in ("classes", "ordered"):
        model = ensemble.ExtraTreesClassifier(max_features="sqrt", **options).fit(x, y, sample_weight=weight)
        theirs = model.predict_proba(new)
    else:
        criterion = "poisson" if kind == "risk" else "squared_error"
        model = ensemble.ExtraTreesRegressor(
            max_features="sqrt" if kind == "labels" else 1 / 3, criterion=criterion, **options
        )
        goal, counted = exposed(y, weight) if kind == "risk" else (y, weight)
        theirs = model.fit(x, goal, sample_weight=counted).predict(new).reshape(len(new), -1)
    expert = Forest(Response(kind, classes), ["table"], trees=trees)
    ours = expert.grown(("table",), x, y, weight, 5)
    found = evaluated(ours, torch.from_numpy(new))
    if alike:
        assert_near(found, theirs)
    else:
        np.testing.assert_allclose(found.numpy(), theirs, atol=0.05)

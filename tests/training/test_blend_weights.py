"""Blend weights: learnt on unseen rows, and nearly equal where these are few."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sensorium.core.expert import Response
from sensorium.core.goal import Goal
from sensorium.modalities.category import Category
from sensorium.modalities.number import Number
from sensorium.nn.gram_projection import GramProjection, products
from sensorium.nn.linear_solvers import Solver, prior
from sensorium.tasks.classification import Classification
from sensorium.tasks.regression import Regression
from sensorium.training.blend_weights import blend_shares, sharpening_factor

RESPONSE = Response("classes", 3)


@pytest.fixture(scope="module")
def task() -> Classification:
    modality = Category()
    modality.fit(["a", "b", "c"])
    return Classification(Goal.of(modality, "y"), 4)


def logits(truth: np.ndarray, right: float, rng: np.random.Generator) -> torch.Tensor:
    """Answers that name the true class in a share of the rows."""
    predicted = np.where(rng.random(len(truth)) < right, truth, rng.integers(0, 3, len(truth)))
    return torch.nn.functional.one_hot(torch.from_numpy(predicted), 3).float().mul(2.0).log_softmax(dim=1)


def test_better_part_gains_weight_with_rows(task: Classification) -> None:
    rng = np.random.default_rng(0)
    results = {}
    for rows in (6, 600):
        truth = rng.integers(0, 3, rows)
        predicted = [logits(truth, 0.95, rng), logits(truth, 0.0, rng)]
        results[rows] = blend_shares(task, RESPONSE, predicted, truth, np.ones(rows))
        assert float(results[rows].sum()) == pytest.approx(1.0, abs=1e-6)
    assert results[600][0] > 0.9
    assert 0.5 < float(results[6][0]) < 0.85


def test_without_rows_weights_are_equal(task: Classification) -> None:
    nothing = torch.zeros(0, 3)
    computed = blend_shares(task, RESPONSE, [nothing] * 4, np.zeros(0, dtype=np.int64), np.zeros(0))
    assert computed.tolist() == [0.25] * 4
    assert sharpening_factor(task, RESPONSE, nothing, np.zeros(0, dtype=np.int64), np.zeros(0)) == 1.0


def test_a_blend_counts_as_its_parts(task: Classification) -> None:
    """With few rows the network gets its share among all parts, not half beside the experts together."""
    nothing, none = torch.zeros(0, 3), np.zeros(0, dtype=np.int64)
    assert blend_shares(task, RESPONSE, [nothing] * 2, none, np.zeros(0), [1, 3]).tolist() == [0.25, 0.75]
    truth = np.arange(6) % 3
    same = logits(truth, 0.5, np.random.default_rng(0))
    computed = blend_shares(task, RESPONSE, [same, same], truth, np.ones(6), [1, 3])
    assert computed.tolist() == pytest.approx([0.25, 0.75], abs=1e-3)


def test_blend_confidence_is_calibrated(task: Classification) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 900)
    fair = logits(truth, 0.6, rng)
    factors = [sharpening_factor(task, RESPONSE, fair * times, truth, np.ones(900)) for times in (0.3, 3.0)]
    assert factors[0] > 1.0 > factors[1]


def test_confidence_agrees_with_the_rows_as_they_come(task: Classification) -> None:
    """Class weights were multiplied into the weights of the rows; they do not move the confidence."""
    rng = np.random.default_rng(2)
    truth = rng.choice(3, 900, p=[0.8, 0.1, 0.1])
    output = logits(truth, 0.6, rng) + torch.tensor([1.0, 0.0, 0.0])
    classes = (0.4, 3.0, 3.0)
    weighted = sharpening_factor(task, Response("classes", 3, classes), output, truth, np.array(classes)[truth])
    assert weighted == pytest.approx(sharpening_factor(task, RESPONSE, output, truth, np.ones(900)), rel=1e-4)
    assert weighted > 1.1 * sharpening_factor(task, RESPONSE, output, truth, np.array(classes)[truth])


def test_more_accurate_number_gains_weight() -> None:
    modality = Number()
    modality.fit(["1", "2", "3"])
    rng = np.random.default_rng(2)
    truth = rng.normal(size=400)
    predicted = [torch.from_numpy(truth + rng.normal(scale=s, size=400)).float().unsqueeze(1) for s in (0.2, 1.0)]
    computed = blend_shares(Regression(Goal.of(modality, "y"), 4), Response("number", 1), predicted, truth, np.ones(400))
    # Independent errors: the best weights are as the inverse variances.
    assert float(computed[0]) == pytest.approx(1 / (1 + 0.04), abs=0.05)


def test_reduced_features_give_the_same_model() -> None:
    from scipy.sparse import random as random_sparse

    rng = np.random.default_rng(3)
    wide = random_sparse(40, 300, density=0.1, format="csr", random_state=rng)
    dense = rng.normal(size=(40, 30))
    target = (np.asarray(wide[:, :20].sum(axis=1)).ravel() + dense[:, 0] > 1).astype(np.int64)
    weight, response = np.ones(40), Response("classes", 2)
    known = prior(response, target, weight)
    narrow = GramProjection.of([wide, dense], [1.5, 0.5], [products(wide), products(dense)], np.float64)
    plain = GramProjection.of([wide, dense], [1.5, 0.5], [None, None], np.float64)
    assert narrow.x.shape == (40, 40)
    assert plain.x.shape == (40, 330)
    heads = [Solver(response, known).fit(one.x, target, weight, 1.0) for one in (narrow, plain)]
    weights = [one.weights(head.weight) for one, head in zip((narrow, plain), heads, strict=True)]
    np.testing.assert_allclose(weights[0], weights[1], atol=2e-3)
    np.testing.assert_allclose(heads[0].bias, heads[1].bias, atol=2e-3)

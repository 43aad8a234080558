"""Statistics against scipy, and against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from sensorium.evaluation.significance import Noise, difference, holm, quantile, seed_noise, two_sided


@pytest.mark.parametrize("freedom", [1.0, 2.0, 3.7, 10.0, 120.0, 1000.0])
@pytest.mark.parametrize("t", [0.0, 0.5, -2.0, 5.0, 30.0])
def test_tails_match_student_t(t: float, freedom: float) -> None:
    expected = 2 * scipy.stats.t.sf(abs(t), freedom)
    assert two_sided(t, freedom) == pytest.approx(expected, rel=1e-6 if freedom < 300 else 0.5, abs=1e-9)
    assert quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-6 if freedom < 300 else 2e-3)


def test_holm_steps_down() -> None:
    # Sorted: 0.01 × 4, 0.02 × 3, 0.03 × 2 (at least the one before), 0.04 × 1 likewise.
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.02}) == pytest.approx({"a": 0.06, "b": 0.04, "c": 0.06, "d": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_seed_noise_of_two_models_matches_a_paired_t_test() -> None:
    a, b = np.array([0.81, 0.84, 0.79, 0.86]), np.array([0.70, 0.79, 0.71, 0.74])
    same = torch.zeros(4, 10)
    result = difference(a.tolist(), b.tolist(), same, same, seed_noise([a.tolist(), b.tolist()]))
    expected = scipy.stats.ttest_rel(a, b)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = expected.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((low, high), rel=1e-5)


def test_the_noise_of_several_models_is_the_residual_of_a_two_way_table() -> None:
    table = np.random.default_rng(0).normal(size=(5, 3))
    noise = seed_noise(table.tolist())
    # By least squares on model and seed dummies.
    models, seeds = np.indices(table.shape)
    design = np.concatenate([np.eye(5)[models.ravel()], np.eye(3)[seeds.ravel()]], axis=1)
    fit = design @ np.linalg.lstsq(design, table.ravel(), rcond=None)[0]
    assert noise.freedom == 8
    assert noise.variance == pytest.approx(((table.ravel() - fit) ** 2).sum() / 8)
    assert seed_noise([[0.5, 0.7]]) == Noise(0.0, 0.0)


def test_equal_models_are_rarely_significant_and_different_ones_are() -> None:
    rng = np.random.default_rng(0)
    rows, seeds, models, trials = 150, 3, 4, 120
    false, true = 0, 0
    for _ in range(trials):
        # A row's difficulty is shared by all; a run has a luck of its own; the last model is truly better.
        difficulty = rng.uniform(0.4, 0.9, size=rows)
        luck = rng.normal(0, 0.02, size=(models, seeds, 1))
        gain = np.zeros((models, 1, 1))
        gain[-1] = 0.25
        right = (rng.random((models, seeds, rows)) < np.clip(difficulty + luck + gain, 0, 1)).astype(float)
        index = rng.integers(rows, size=(100, rows))
        scores = right.mean(axis=2)
        draws = torch.tensor(right[:, :, index].mean(axis=3))
        noise = seed_noise(scores.tolist())
        null = difference(scores[0].tolist(), scores[1].tolist(), draws[0], draws[1], noise)
        real = difference(scores[-1].tolist(), scores[0].tolist(), draws[-1], draws[0], noise)
        false += null.p < 0.05
        true += real.p < 0.05
    assert false / trials <= 0.08
    assert true / trials > 0.9


def test_no_difference_at_all() -> None:
    same = torch.full((1, 5), 0.5)
    assert difference([0.5], [0.5], same, same, Noise(0.0, 0.0)).p == 1.0
    assert difference([1.0], [0.5], same, same, Noise(0.0, 0.0)).p == 0.0

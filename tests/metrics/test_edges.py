"""The matcher of edge pixels against brute force, and the scores against the formulas of the benchmark."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from sensorium.metrics.edges import EdgeScorer, average_precision, edge_counts, f_score, matched_pixels, precision_recall
from sensorium.metrics.skeleton import skeleton
from sensorium.signal.edges import gradient_strength, suppressed

torch.set_num_threads(1)


def brute_force(answered: np.ndarray, true: np.ndarray, reach: float) -> int:
    """The maximum number of pairs of pixels within reach, over all assignments."""
    left, right = np.argwhere(answered), np.argwhere(true)
    if len(left) > len(right):
        left, right = right, left
    near = np.hypot(*(left[:, None] - right[None]).transpose(2, 0, 1)) <= reach
    orders = permutations(range(len(right)), len(left))
    return max((int(sum(near[i, j] for i, j in enumerate(order))) for order in orders), default=0)


@pytest.mark.parametrize("seed", range(12))
def test_the_matcher_pairs_as_many_pixels_as_brute_force(seed: int) -> None:
    draw = np.random.default_rng(seed)
    answered, true = draw.random((2, 5, 6)) < 0.12, draw.random((3, 5, 6)) < 0.2
    true &= np.cumsum(true.reshape(3, -1), axis=1).reshape(true.shape) <= 7
    answered &= np.cumsum(answered.reshape(2, -1), axis=1).reshape(answered.shape) <= 5
    reach = float(draw.choice([1.0, 1.5, 2.3]))
    took, met = matched_pixels(answered, true, reach)
    for t, answer in enumerate(answered):
        for a, truth in enumerate(true):
            pairs = brute_force(answer, truth, reach)
            assert took[a, t].sum() == met[t, a].sum() == pairs
            assert not (took[a, t] & ~answer).any()
            assert not (met[t, a] & ~truth).any()


def test_a_pixel_is_matched_once() -> None:
    answered, true = np.zeros((1, 3, 7), np.bool_), np.zeros((1, 3, 7), np.bool_)
    answered[0, 0, 1:6] = answered[0, 2, 1:6] = True
    true[0, 1, 1:6] = True
    took, met = matched_pixels(answered, true, 1.5)
    assert took.sum() == met.sum() == 5


def test_precision_counts_any_annotator_and_recall_all_of_them() -> None:
    true = np.zeros((2, 9, 9), np.bool_)
    true[0, 2, 1:8], true[1, 6, 1:8] = True, True
    strength = np.zeros((9, 9), np.float32)
    strength[2, 1:8], strength[6, 1:8], strength[4, 1:8] = 0.9, 0.6, 0.3
    counts = edge_counts(strength, true, [0.2, 0.5, 0.8], 1.0)
    assert counts.tolist() == [[14, 21, 14, 14], [14, 14, 14, 14], [7, 7, 7, 14]]


def test_scores_are_those_of_the_benchmark() -> None:
    draw = torch.Generator().manual_seed(0)
    total = torch.randint(20, 40, (5, 4, 1), generator=draw)
    right = (total * torch.rand(5, 4, 1, generator=draw)).long()
    true = torch.randint(40, 60, (5, 1, 1), generator=draw).expand(5, 4, 1)
    kept = torch.cat([right, total, right, true], dim=2)
    scorer = EdgeScorer(lambda output, batch: ([], kept), [0.2, 0.4, 0.6, 0.8])
    scorer.load({"counts": kept})
    scores = {name: float(value[0]) for name, value in scorer.compute().items()}
    sums = kept.double().sum(dim=0)
    precision, recall = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]
    f = 2 * precision * recall / (precision + recall)
    assert scores["ods"] == pytest.approx(float(f.max()))
    assert scores["precision"] == pytest.approx(float(precision[f.argmax()]))
    each = kept.double()
    own = 2 * (each[..., 0] / each[..., 1]) * (each[..., 2] / each[..., 3])
    own = own / (each[..., 0] / each[..., 1] + each[..., 2] / each[..., 3]).clamp(min=1e-9)
    best = each[torch.arange(5), own.argmax(dim=1)].sum(dim=0)
    p, r = best[0] / best[1], best[2] / best[3]
    assert scores["ois"] == pytest.approx(float(2 * p * r / (p + r)))
    doubled = scorer.compute(torch.full((1, 5), 2.0, dtype=torch.float64))
    assert {name: float(value[0]) for name, value in doubled.items()} == pytest.approx(scores)


def test_perfect_answers_score_one_and_empty_ones_nothing() -> None:
    counts = torch.tensor([[10.0, 10, 10, 10], [0, 0, 0, 10], [0, 5, 0, 10]])
    assert f_score(counts).tolist() == [1.0, 0.0, 0.0]
    precision, recall = precision_recall(torch.tensor([[[10.0, 10, 10, 10]]]))
    assert average_precision(precision, recall).tolist() == [1.0]


def test_a_skeleton_is_thin_connected_and_stays_on_the_shape() -> None:
    y, x = np.mgrid[0:40, 0:40]
    ring = np.abs(np.hypot(x - 20, y - 20) - 12) < 2.5
    (thin,) = skeleton(ring[None])
    assert not (thin & ~ring).any()
    assert thin.sum() < 0.35 * ring.sum()
    # A closed curve: the middle is cut off from the border.
    from scipy.ndimage import label

    assert label(~thin)[1] == 2
    assert label(thin, np.ones((3, 3)))[1] == 1
    line = np.zeros((1, 9, 9), np.bool_)
    line[0, 4, 1:8] = True
    assert np.array_equal(skeleton(line), line)


def test_crests_follow_a_blurred_circle() -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    away = (torch.hypot(x - 31.5, y - 31.5) - 20).abs()
    crests = suppressed((-(away**2) / 8).exp()[None])[0]
    kept = crests > 0.5
    assert float(away[kept].max()) <= 0.8
    assert 0.8 * 126 < int(kept.sum()) < 1.6 * 126
    disc = 100 * (torch.hypot(x - 31.5, y - 31.5) < 20).float()
    gradient = suppressed(gradient_strength(disc[None, None]))[0]
    assert float(away[gradient > 0.4].max()) <= 1.5

"""The linear expert matches scikit-learn and respects its limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.expert import Expert, Observed, Response
from sensorium.core.registry import build
from sensorium.experts import linear
from sensorium.nn.linear_solvers import STRENGTHS, Solver, answered, chosen, folds, prior
from sensorium.testing.experts import RESPONSES, STREAMS, expert_inputs, observed

models = pytest.importorskip("sklearn.linear_model")
Logistic = models.LogisticRegression


def whole(response: Response, rows: int = 200, seed: int = 0) -> Observed:
    """Rows that have every stream, all features dense."""
    result = observed(response, rows, seed)
    features: dict[str, Any] = {**result.features, "words": result.features["words"].toarray()}
    return replace(result, features=features, present={s: np.ones(rows, dtype=bool) for s in STREAMS})


def fitted(rows: Observed, response: Response, **options: Any) -> Expert:
    expert: Expert = build("experts", {"kind": "linear", **options}, response, STREAMS)
    expert.fit(rows, 0)
    return expert.eval()


def test_logistic_regression_matches_scikit_learn() -> None:
    """Each stream at a total variance of 1, which the reference has by hand."""
    response = RESPONSES["classes"]
    rows = whole(response)
    out = fitted(rows, response, strength=0.5, balance="even")(*expert_inputs("linear", rows)).exp()
    parts = [rows.features[s].astype(np.float64) for s in STREAMS]
    x = np.concatenate([part / part.var(axis=0).sum() ** 0.5 for part in parts], axis=1)
    weight = rows.weight / rows.weight.mean()
    theirs = Logistic(C=0.5, max_iter=1000).fit(x, rows.target, sample_weight=weight).predict_proba(x)
    np.testing.assert_allclose(out.numpy(), theirs, atol=2e-3)


def test_sparse_and_dense_features_agree() -> None:
    from scipy import sparse

    response = RESPONSES["classes"]
    rows = whole(response)
    thin = replace(rows, features={**rows.features, "words": sparse.csr_matrix(rows.features["words"])})
    dense, other = (fitted(r, response, strength=1.0, balance="even")(*expert_inputs("linear", r)) for r in (rows, thin))
    np.testing.assert_allclose(dense.numpy(), other.numpy(), atol=1e-2)


def test_proportional_odds_recover_the_thresholds() -> None:
    """Rows drawn from the model itself: slope and thresholds come back, and so do the shares of the classes."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(8000, 2))
    level = x @ np.array([1.5, -1.0]) + draw.logistic(size=8000)
    y = np.digitize(level, [-2.0, 0.0, 1.0])
    response = Response("ordered", 4)
    known = prior(response, y, np.ones(8000))
    head = Solver(response, known).fit(x, y, np.ones(8000), 100.0)
    np.testing.assert_allclose(head.weight[:, 0], [1.5, -1.0], atol=0.1)
    np.testing.assert_allclose(head.bias, [2.0, 0.0, -1.0], atol=0.1)
    scores = answered(response, torch.from_numpy(x @ head.weight + head.bias), torch.from_numpy(known))
    np.testing.assert_allclose(scores.exp().mean(dim=0), np.bincount(y) / 8000, atol=0.01)


def test_ridge_matches_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(60, 4)), draw.normal(size=60) * 1000 + 5000
    head = Solver(Response("number", 1), np.zeros(1)).fit(x, y, np.ones(60), 0.1)
    model = models.Ridge(alpha=10).fit(x, y)
    np.testing.assert_allclose((x @ head.weight + head.bias)[:, 0], model.predict(x), rtol=1e-6)


def test_the_strength_minimises_the_loss() -> None:
    """As by trying all of them, with nothing carried over from one to the next."""
    response = Response("classes", 2)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 30))
    y = (x[:, 0] + draw.normal(size=120) > 0).astype(np.int64)
    weight, fold = np.ones(120), folds(response, y, 4, 0)
    best, least = chosen(response, x, y, weight, prior(response, y, weight), fold, range(4))
    losses = []
    for strength in STRENGTHS:
        total = 0.0
        for k in range(4):
            shares = Logistic(C=strength).fit(x[fold != k], y[fold != k]).predict_proba(x[fold == k])
            total -= np.log(shares[np.arange(len(shares)), y[fold == k]]).sum()
        losses.append(total / 120)
    at = int(np.argmin(losses))
    assert STRENGTHS[at - 1] < best < STRENGTHS[at + 1], "the lowest point of the parabola lies between its neighbours"
    assert least == pytest.approx(min(losses), rel=1e-3)


def test_folds_are_stratified() -> None:
    y = np.repeat([0, 1, 2], [40, 8, 4])
    fold = folds(Response("classes", 3), y, 4, 0)
    assert all((np.bincount(fold[y == c], minlength=4) == (y == c).sum() // 4).all() for c in range(3))
    assert (fold != folds(Response("classes", 3), y, 4, 1)).any()


def test_unseen_classes_get_small_nonzero_probability() -> None:
    response = RESPONSES["classes"]
    rows = whole(response)
    sound = rows.target != 2
    part = replace(rows, present={**rows.present, "sound": sound})
    expert = fitted(part, response)
    shares = expert(*expert_inputs("linear", rows)).exp()
    expected = (rows.weight * (rows.target == 2)).sum() / rows.weight.sum()
    assert bool((shares[:, 2] > 0).all())
    assert float(shares[:, 2].mean()) == pytest.approx(expected / (1 + expected), abs=0.1)


def test_streams_that_never_co_occur_are_predicted_separately() -> None:
    response = RESPONSES["classes"]
    rows = whole(response)
    turn = np.arange(len(rows)) % 3
    apart = replace(rows, present={s: turn == i for i, s in enumerate(STREAMS)})
    expert = fitted(apart, response)
    features, present = expert_inputs("linear", rows)
    alone = {s: presence if s == STREAMS[0] else torch.zeros_like(presence) for s, presence in present.items()}
    assert torch.equal(expert(features, present), expert(features, alone))


def test_a_target_with_one_class_gives_the_prior() -> None:
    response = RESPONSES["classes"]
    rows = whole(response)
    out = fitted(replace(rows, target=np.zeros_like(rows.target)), response)(*expert_inputs("linear", rows)).exp()
    assert bool((out == out[:1]).all())
    assert float(out[0, 0]) > 0.98


def test_low_variance_features_are_dropped_beyond_the_weight_limit() -> None:
    response = RESPONSES["classes"]
    rows = observed(response)
    expert = fitted(rows, response, weights=30)
    assert sum(len(getattr(expert, f"columns_{i}")) for i in range(3)) == 10
    assert max(p.numel() for n, p in expert.state_dict().items() if n.startswith("weight")) <= 30


def test_large_problems_are_subsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    response = RESPONSES["classes"]
    rows = observed(response)
    monkeypatch.setattr(linear, "TRIED", 2000.0)
    monkeypatch.setattr(linear, "FITTED", 900.0)
    seen: list[int] = []
    fit = Solver.fit

    def spied(self: Solver, x: Any, *rest: Any) -> Any:
        seen.append(x.shape[0])
        return fit(self, x, *rest)

    monkeypatch.setattr(Solver, "fit", spied)
    out = fitted(rows, response)(*expert_inputs("linear", rows))
    assert max(seen) < 0.75 * len(rows)
    assert bool(out.isfinite().all())


def test_strength_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="strength"):
        build("experts", {"kind": "linear", "strength": -1.0}, RESPONSES["classes"], STREAMS)


@pytest.mark.parametrize("kind", ["linear", "forest", "boosting"])
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_the_scores_of_a_row_do_not_depend_on_its_place_or_on_the_batch(kind: str, classes: int) -> None:
    """Bit for bit, in batches of 4 rows and more: a server may then answer requests together."""
    response = Response("classes", classes)
    expert = build("experts", kind, response, STREAMS)
    expert.fit(observed(response), 3)
    features, present = expert_inputs(kind, observed(response, 64, seed=1))
    draw = np.random.default_rng(0)
    with torch.no_grad():
        scores = expert.eval()(features, present)
        for size in (64, 48, 16, 8, 4):
            order = draw.permutation(64)[:size]
            some = expert({s: x[order] for s, x in features.items()}, {s: x[order] for s, x in present.items()})
            assert torch.equal(some, scores[order]), f"{size} rows"

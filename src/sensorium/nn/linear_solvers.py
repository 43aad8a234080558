"""Convex linear models on fixed features: logistic, ordinal, ridge and Cox regression, with a tuned penalty.

Fitted with scikit-learn and SciPy; predictions are computed in torch, so a saved model needs neither.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.expert import Response
from sensorium.nn.survival_likelihood import partial_loss

Floats = NDArray[np.float64]

STRENGTHS = tuple(float(f"{10 ** (i / 2):.3g}") for i in range(-4, 6))
"""Inverse penalty strengths to try: 0.01 … 316 in half decades, the strongest penalty first."""
STEPS = 100
SMOOTH = 1e-3
"""Weight of the prior in ordinal predictions, so that no class has probability 0."""
APART = 10.0
"""Scale of the ordinal threshold columns; large, so that their weights are hardly penalised."""


@dataclass(frozen=True)
class Head:
    """A linear model, ``features @ weight + bias``: ``[F, k]`` and ``[K]``, with ``k`` = ``K``, or 1 for ordinal
    models.
    """

    weight: Floats
    bias: Floats


def prior(response: Response, target: NDArray[Any], weight: Floats) -> Floats:
    """Return the prediction without features ``[size]``: log shares, log-odds, the mean, or a log hazard of 0.

    Half a row is added to every class, so that a class without rows is rare, not impossible.

    Args:
        response: The kind of target.
        target: Targets of the training rows.
        weight: Weight of each row.
    """
    if response.kind == "risk":
        return np.zeros(1)
    if response.kind == "number":
        return np.array([np.average(target, weights=weight)]) if len(target) else np.zeros(1)
    half = 0.5 * (weight.mean() if len(weight) else 1.0)
    if response.kind == "labels":
        yes = (weight[:, None] * target).sum(axis=0) + half
        odds: Floats = np.log(yes) - np.log(weight.sum() + 2 * half - yes)
        return odds
    shares = np.bincount(target, weights=weight, minlength=response.size) + half
    logs: Floats = np.log(shares / shares.sum())
    return logs


def answered(response: Response, raw: Tensor, known: Tensor) -> Tensor:
    """Convert linear predictions to scores ``[B, size]``: log-probabilities, log-odds or numbers.

    Args:
        response: The kind of target.
        raw: ``features @ weight + bias``.
        known: The prior, see ``prior``.
    """
    if response.kind == "classes":
        return raw.log_softmax(dim=1)
    if response.kind == "ordered":
        above = F.pad(F.pad(raw.sigmoid(), (1, 0), value=1.0), (0, 1))  # P(y ≥ k), k = 0 … K
        shares = (above[:, :-1] - above[:, 1:]).clamp(min=0.0)
        return ((1 - SMOOTH) * shares + SMOOTH * known.exp()).log()
    return raw


def loss(response: Response, scores: Tensor, target: Tensor, weight: Tensor) -> float:
    """Return the log loss, squared error or partial likelihood loss per unit of weight.

    Args:
        response: The kind of target.
        scores: As returned by ``answered``.
        target: Targets of the rows.
        weight: Weight of each row.
    """
    if response.kind == "risk":
        lost = partial_loss(scores[:, 0], target[:, 0], target[:, 1] > 0.5, weight)
        return float(lost.sum() / weight.sum())
    if response.kind == "number":
        each = (scores[:, 0] - target).square()
    elif response.kind == "labels":
        each = F.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(dim=1)
    else:
        each = F.nll_loss(scores, target.long(), reduction="none")
    return float((each * weight).sum() / weight.sum())


class Solver:
    """Fit linear models on the same rows in sequence, each warm-started from the previous one."""

    def __init__(self, response: Response, known: Floats) -> None:
        self.response, self.known = response, known
        self.models: dict[int, Any] = {}

    def fit(self, x: Any, target: NDArray[Any], weight: Floats, strength: float) -> Head:
        """Fit one model.

        Args:
            x: Array or CSR matrix ``[rows, F]``.
            target: Targets of the rows.
            weight: Weight of each row.
            strength: Inverse penalty strength, like C of a support vector machine.
        """
        fitted: Head = getattr(self, f"_{self.response.kind}")(x, target, weight / weight.mean(), strength)
        return fitted

    def _logistic(self, key: int, x: Any, y: NDArray[Any], weight: Floats, strength: float, *, free: bool = True) -> Any:
        from sklearn.linear_model import LogisticRegression

        if key not in self.models:
            self.models[key] = LogisticRegression(warm_start=True, max_iter=STEPS, fit_intercept=free)
        with without_expected_warnings():
            return self.models[key].set_params(C=strength).fit(x, y, sample_weight=weight)

    def _classes(self, x: Any, y: NDArray[Any], weight: Floats, strength: float) -> Head:
        model = self._logistic(0, x, y, weight, strength)
        coef, bias = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
        if len(model.classes_) == 2:
            coef, bias = np.concatenate([-coef, coef]) / 2, np.concatenate([-bias, bias]) / 2
        whole = Head(np.zeros((x.shape[1], self.response.size)), np.zeros(self.response.size))
        whole.weight[:, model.classes_], whole.bias[model.classes_] = coef.T, bias
        unseen = np.setdiff1d(np.arange(self.response.size), model.classes_)
        if len(unseen):  # in an average row as likely as its prior share
            logits = torch.from_numpy(x @ coef.T + bias)
            whole.bias[unseen] = float(logits.logsumexp(dim=1).mean()) + self.known[unseen]
        return whole

    def _labels(self, x: Any, y: NDArray[Any], weight: Floats, strength: float) -> Head:
        head = Head(np.zeros((x.shape[1], self.response.size)), self.known.copy())
        for label in range(self.response.size):
            if len(np.unique(y[:, label])) == 2:
                model = self._logistic(label, x, y[:, label].astype(np.int64), weight, strength)
                head.weight[:, label], head.bias[label] = model.coef_[0], model.intercept_[0]
        return head

    def _ordered(self, x: Any, y: NDArray[Any], weight: Floats, strength: float) -> Head:
        """Fit proportional odds as one binary problem over all rows and thresholds (Li & Lin 2007)."""
        from scipy import sparse

        steps, rows = self.response.size - 1, x.shape[0]
        which = np.tile(np.arange(steps), rows)
        marks = sparse.csr_matrix((np.full(len(which), APART), (np.arange(len(which)), which)), dtype=x.dtype)
        whole = sparse.hstack([sparse.csr_matrix(x)[np.repeat(np.arange(rows), steps)], marks], format="csr")
        above = (np.repeat(y, steps) > which).astype(np.int64)
        model = self._logistic(0, whole, above, np.repeat(weight, steps), strength, free=False)
        coef = model.coef_[0].astype(np.float64)
        # At the optimum thresholds are in descending order; enforce it if the solver stopped early.
        return Head(coef[:-steps, None], np.minimum.accumulate(coef[-steps:] * APART))

    def _number(self, x: Any, y: NDArray[Any], weight: Floats, strength: float) -> Head:
        from sklearn.linear_model import Ridge

        mean, spread = np.average(y, weights=weight), float(np.std(y)) or 1.0
        model = Ridge(alpha=1 / strength).fit(x, (y - mean) / spread, sample_weight=weight)
        coef = np.asarray(model.coef_, dtype=np.float64)
        return Head(coef[:, None] * spread, np.array([float(model.intercept_) * spread + mean]))

    def _risk(self, x: Any, y: NDArray[Any], weight: Floats, strength: float) -> Head:
        """Fit Cox regression with a ridge penalty; the bias, which is not identifiable, gives the average row a score
        of 0.
        """
        from scipy.optimize import minimize

        time, event, counts = torch.from_numpy(y[:, 0]), torch.from_numpy(y[:, 1] > 0.5), torch.from_numpy(weight)

        def objective(coef: Floats) -> tuple[float, Floats]:
            score = torch.from_numpy(np.asarray(x @ coef, dtype=np.float64)).requires_grad_()
            with torch.enable_grad():
                lost = partial_loss(score, time, event, counts).sum()
            (slope,) = torch.autograd.grad(lost, score)
            return float(lost.detach()) + float(coef @ coef) / (2 * strength), np.asarray(
                x.T @ slope.numpy() + coef / strength
            )

        start = self.models.get(0, np.zeros(x.shape[1]))
        minimum = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
        self.models[0] = coef = np.asarray(minimum.x, dtype=np.float64)
        return Head(coef[:, None], np.array([-np.average(x @ coef, weights=weight)]))


@contextmanager
def without_expected_warnings() -> Iterator[None]:
    """Silence what is expected: a model stopped after ``STEPS`` steps predicts as well, and a subsample of a table with
    hundreds of classes has few rows of each."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes is greater than", UserWarning)
        yield


def folds(response: Response, target: NDArray[Any], number: int, seed: int) -> NDArray[np.int64]:
    """Assign rows to stratified folds ``[rows]``: each has its share of every class, or of low and high values.

    Args:
        response: The kind of target.
        target: Targets of the rows.
        number: The number of folds.
        seed: Seed of the shuffle.
    """
    order = np.random.default_rng(seed).permutation(len(target))
    key = target.sum(axis=1) if response.kind == "labels" else target[:, 0] if response.kind == "risk" else target
    order = order[np.argsort(key[order], kind="stable")]
    fold = np.empty(len(target), dtype=np.int64)
    fold[order] = np.arange(len(target)) % number
    return fold


def fits(response: Response, target: NDArray[Any]) -> bool:
    """Whether ``target`` varies enough for a model of this ``response`` to be fitted."""
    if response.kind == "labels":
        return bool((target.min(axis=0) != target.max(axis=0)).any()) if len(target) else False
    if response.kind == "risk":
        return bool((target[target[:, 1] > 0.5, 0] < target[:, 0].max(initial=-np.inf)).any())
    return len(np.unique(target)) > 1


def chosen(
    response: Response,
    x: Any,
    target: NDArray[Any],
    weight: Floats,
    known: Floats,
    fold: NDArray[np.int64],
    held: Sequence[int],
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[float, float]:
    """Return the inverse penalty strength with the lowest cross-validated loss, and that loss.

    Strengths are tried in order until two in a row are worse than the best; the minimum is then interpolated.

    Args:
        response: The kind of target.
        x: Features ``[rows, F]``.
        target: Targets of the rows.
        weight: Weight of each row.
        known: The prior, see ``prior``.
        fold: Fold of each row.
        held: The folds to hold out, one at a time.
        strengths: Inverse penalty strengths to try.
    """
    usable = [k for k in held if fits(response, target[fold != k]) and (fold == k).any()]
    if not usable:
        return 1.0, np.inf
    solvers = {k: Solver(response, known) for k in usable}
    best, least, worse = strengths[0], np.inf, 0
    losses: list[float] = []
    for strength in strengths:
        total = 0.0
        for k, solver in solvers.items():
            own, other = fold != k, fold == k
            head = solver.fit(x[own], target[own], weight[own], strength)
            raw = torch.from_numpy(np.asarray(x[other] @ head.weight + head.bias, dtype=np.float64))
            scores = answered(response, raw, torch.from_numpy(known))
            share = float(weight[other].sum() / weight.sum())
            total += share * loss(response, scores, torch.from_numpy(target[other]), torch.from_numpy(weight[other]))
        losses.append(total)
        if total < least:
            best, least, worse = strength, total, 0
        else:
            worse += 1
        if worse == 2:
            break
    return _between(strengths, losses, losses.index(least)) if np.isfinite(least) else best, least


def _between(strengths: Sequence[float], losses: Sequence[float], at: int) -> float:
    """Return the minimum of the parabola through the best loss and its neighbours, over log strength."""
    if not 0 < at < len(losses) - 1:
        return strengths[at]
    x, y = np.log(strengths[at - 1 : at + 2]), np.asarray(losses[at - 1 : at + 2])
    bend, slope, _ = np.polyfit(x - x[1], y, 2)
    if not bend > 0:
        return strengths[at]
    low = float(np.clip(-slope / (2 * bend), x[0] - x[1], x[2] - x[1]))
    return float(f"{np.exp(x[1] + low):.3g}")

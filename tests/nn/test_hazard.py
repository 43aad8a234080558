"""Survival: likelihoods, curves and scores against lifelines 0.30 (its figures) and against plain loops in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from sensorium.core.expert import Response
from sensorium.metrics.survival import (
    alive_at,
    brier_over_time,
    c_index,
    calibration_at,
    kaplan_meier,
    uno_c_index,
)
from sensorium.nn.linear_solvers import Solver
from sensorium.nn.survival_likelihood import breslow, exposed, hazard_loss, lived, partial_loss

# Forty rows with many ties, and what lifelines says of them: CoxPHFitter, KaplanMeierFitter, NelsonAalenFitter without
# smoothing.
# fmt: off
X = np.array([
    0.0, 0.3, -0.27, -0.89, -0.45, -0.99, 0.06, 1.34, -0.49, -0.62, 0.49, 0.36, 0.11, -0.93, -0.03, 0.7, -1.34,
    -0.46, -1.9, -1.29, -1.84, -0.24, -1.27, 0.27, 0.16, -0.19, -2.52, -0.54, -0.05, 0.11, -1.53, -0.48, -0.98,
    -0.81, 1.06, -0.81, -0.03, 0.88, -0.58, -0.11, 0.11, 0.06, -1.23, 0.08, 1.36, -1.55, 0.86, 0.12, -0.64, 2.0,
    0.76, -1.2, 0.07, 0.58, -0.19, 0.68, -0.07, 0.67, 1.44, -0.68, 0.2, -0.46, 0.13, -1.19, -0.58, -0.2, 0.9, 1.15,
    -1.32, -0.79, 0.65, -1.99, -0.46, -0.1, 1.26, 0.69, -0.33, -0.37, -0.25, 1.52,
]).reshape(40, 2)
TIME = np.array([
    7, 3, 1, 10, 2, 2, 2, 2, 5, 1, 11, 5, 6, 6, 5, 1, 7, 1, 2, 11, 2, 5, 1, 2, 10, 1, 5, 3, 5, 1, 3, 1, 22, 1, 10,
    1, 2, 2, 2, 1,
], dtype=np.float64)
EVENT = np.array(list(map(int, "0111001001000101111100111001111101011111")))
STRATUM = np.array(list(map(int, "0111101110010100011001010010100111111011")))
# fmt: on
COEF, LIKELIHOOD = (0.8386139792287529, -0.4796896480241584), -70.26683093298287
STRATIFIED, STRATA_LIKELIHOOD = (0.9719331400134049, -0.48374771388738985), -53.39146480808307
CONCORDANCE = 0.7115749525616698
KAPLAN_MEIER = {
    1: 0.75,
    2: 0.5948275862,
    3: 0.5009074410,
    6: 0.4226406534,
    10: 0.2465403811,
    11: 0.1643602541,
    22: 0.1643602541,
}
NELSON_AALEN = {1: 0.25, 2: 0.4568965517, 3: 0.6147912886, 7: 0.9022912886, 11: 1.5689579552, 22: 1.5689579552}
BASE = {1: 0.1692634592, 2: 0.3875827830, 5: 0.6972231341, 11: 2.2530903089}
MEAN = np.array([-0.21825, -0.1345])

time, event, ones = torch.from_numpy(TIME), torch.from_numpy(EVENT).bool(), torch.ones(40, dtype=torch.float64)


def test_partial_likelihood_matches_lifelines() -> None:
    score = torch.from_numpy(X @ COEF)
    assert float(partial_loss(score, time, event).sum()) == pytest.approx(-LIKELIHOOD, abs=1e-8)
    assert float(partial_loss(score + 300, time, event).sum()) == pytest.approx(-LIKELIHOOD, abs=1e-8)
    strata = torch.from_numpy(STRATUM)
    found = partial_loss(torch.from_numpy(X @ STRATIFIED), time, event, None, strata)
    assert float(found.sum()) == pytest.approx(-STRATA_LIKELIHOOD, abs=1e-8)


def test_minimum_matches_lifelines() -> None:
    """Its gradient in the coefficients is zero there, with and without strata."""
    for coef, stratum in ((COEF, None), (STRATIFIED, torch.from_numpy(STRATUM))):
        weight = torch.tensor(coef, dtype=torch.float64, requires_grad=True)
        partial_loss(torch.from_numpy(X) @ weight, time, event, None, stratum).sum().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        assert float(weight.grad.abs().max()) < 1e-3  # lifelines stops there: its sixth digit


def test_ridge_cox_regression_finds_the_minimum() -> None:
    """With next to no penalty; a strong one draws both to zero. The middling row scores 0."""
    target = np.stack([TIME, EVENT], axis=1)
    solver = Solver(Response("risk", 1), np.zeros(1))
    head = solver.fit(X, target, np.ones(40), 1e6)
    assert head.weight[:, 0] == pytest.approx(COEF, abs=1e-4)
    assert float((X @ head.weight + head.bias).mean()) == pytest.approx(0, abs=1e-9)
    held = Solver(Response("risk", 1), np.zeros(1)).fit(X, target, np.ones(40), 0.01)
    assert np.abs(held.weight).max() < 0.2


def test_weight_two_equals_a_repeated_row_without_ties() -> None:
    draw = torch.Generator().manual_seed(0)
    score, when = torch.randn(12, generator=draw, dtype=torch.float64), torch.randperm(12, generator=draw).double()
    died = torch.rand(12, generator=draw) < 0.6
    died[4] = False
    twice = torch.cat([torch.arange(12), torch.tensor([4])])  # censored twice: no tie of events comes about
    weight = torch.ones(12, dtype=torch.float64)
    weight[4] = 2.0
    whole = float(partial_loss(score, when, died, weight).sum())
    assert whole == pytest.approx(float(partial_loss(score[twice], when[twice], died[twice]).sum()))


def test_extreme_scores_and_no_events_stay_finite() -> None:
    score = torch.tensor([900.0, -900.0, 0.0, 5.0], requires_grad=True)
    lost = partial_loss(score, torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([True, True, True, False]))
    lost.sum().backward()  # type: ignore[no-untyped-call]
    assert bool(lost.isfinite().all())
    assert score.grad is not None
    assert bool(score.grad.isfinite().all())
    assert float(partial_loss(torch.randn(3), torch.arange(3.0), torch.zeros(3, dtype=torch.bool)).sum()) == 0


def test_curves_match_lifelines() -> None:
    at, share = kaplan_meier(time, event, ones[None])
    found = dict(zip(at.tolist(), share[0].tolist(), strict=True))
    for moment, value in KAPLAN_MEIER.items():
        assert found[moment] == pytest.approx(value, abs=1e-9)
        assert float(alive_at(torch.stack([time, event.double()], dim=1), ones[None], torch.tensor(moment + 0.5))) == (
            pytest.approx(value, abs=1e-9)
        )
    moments = torch.tensor(list(NELSON_AALEN), dtype=torch.float64)
    assert breslow(torch.zeros(40), time, event, ones, moments).tolist() == pytest.approx(list(NELSON_AALEN.values()))
    # lifelines' baseline is that of the mean row, and Breslow's estimate like ours.
    centred = torch.from_numpy((X - MEAN) @ COEF)
    moments = torch.tensor(list(BASE), dtype=torch.float64)
    assert breslow(centred, time, event, ones, moments).tolist() == pytest.approx(list(BASE.values()), abs=1e-6)
    assert float(breslow(centred, time, event, ones, torch.tensor([0.5]))) == 0


def test_concordance_matches_lifelines_and_counts_ties_half() -> None:
    truth = torch.stack([time, event.double()], dim=1)
    risk = torch.from_numpy(X @ COEF)[:, None]
    assert float(c_index(risk, truth, ones[None])) == pytest.approx(CONCORDANCE, abs=1e-12)
    assert float(c_index(risk * 0, truth, ones[None])) == 0.5
    assert float(c_index(-risk, truth, ones[None])) == pytest.approx(1 - CONCORDANCE, abs=1e-12)
    assert float(uno_c_index(risk * 0, truth, ones[None])) == 0.5
    nobody = torch.stack([time, torch.zeros(40)], dim=1)
    assert bool(c_index(risk, nobody, ones[None]).isnan())


def _censored(upto: float, *, before: bool, draw: Tensor) -> float:
    """The share not censored by a time, by the formula of Kaplan and Meier in a loop."""
    share = 1.0
    for moment in sorted(set(TIME.tolist())):
        if moment > upto or (before and moment == upto):
            break
        risk = sum(
            float(w) for w, t, e in zip(draw, TIME, EVENT, strict=True) if t > moment or (t == moment and not e)
        )  # events come first
        left = sum(float(w) for w, t, e in zip(draw, TIME, EVENT, strict=True) if t == moment and not e)
        share *= 1 - left / risk if risk else 1.0
    return max(share, 0.02)


@pytest.fixture(params=["once", "resampled"])
def draw(request: pytest.FixtureRequest) -> Iterator[Tensor]:
    """How often each row counts."""
    if request.param == "once":
        yield ones
    else:
        yield torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(3)).double()


def test_uno_and_brier_match_their_formulas(draw: Tensor) -> None:
    truth, risk = torch.stack([time, event.double()], dim=1), X @ COEF
    above = below = 0.0
    for i in range(40):
        for j in range(40):
            if EVENT[i] and (TIME[i] < TIME[j] or (TIME[i] == TIME[j] and not EVENT[j])):
                weight = float(draw[i] * draw[j]) / _censored(TIME[i], before=True, draw=draw) ** 2
                below += weight
                above += weight * (1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0)
    assert float(uno_c_index(torch.from_numpy(risk)[:, None], truth, draw[None])) == pytest.approx(above / below)

    grid = torch.tensor([1.0, 2.5, 5.0, 9.0])
    curve = torch.exp(-0.1 * grid * torch.from_numpy(risk).exp()[:, None])
    errors = []
    for g, at in enumerate(grid.tolist()):
        total = 0.0
        for i in range(40):
            said = float(curve[i, g])
            if TIME[i] <= at and EVENT[i]:
                total += float(draw[i]) * said**2 / _censored(TIME[i], before=True, draw=draw)
            elif TIME[i] > at:
                total += float(draw[i]) * (1 - said) ** 2 / _censored(at, before=False, draw=draw)
        errors.append(total / float(draw.sum()))
    prediction = torch.cat([torch.from_numpy(risk)[:, None], curve], dim=1)
    wanted = np.trapezoid(errors, grid.numpy()) / 8.0
    assert float(brier_over_time(grid)(prediction, truth, draw[None])) == pytest.approx(wanted)
    assert calibration_at(grid, 1)(prediction, truth, draw[None]).shape == (1,)


def test_scores_match_scikit_survival_and_lifelines() -> None:
    """Figures of scikit-survival 0.28, with each censoring a quarter later, so
    that none is at the time of an event; ties are to be understood that way. Calibration by lifelines' Kaplan-Meier.
    """
    risk, grid = torch.from_numpy(X @ COEF), torch.tensor([1.5, 2.5, 5.5, 9.5], dtype=torch.float64)
    prediction = torch.cat([risk[:, None], torch.exp(-0.1 * grid * risk.exp()[:, None])], dim=1)
    for late in (0.25, 0.0):
        truth = torch.stack([time + late * ~event, event.double()], dim=1)
        assert float(uno_c_index(prediction, truth, ones[None])) == pytest.approx(0.6595955699074894, abs=1e-9)
        assert float(brier_over_time(grid)(prediction, truth, ones[None])) == pytest.approx(0.19433403033227803, abs=1e-9)
        assert float(calibration_at(grid, 1)(prediction, truth, ones[None])) == pytest.approx(0.22454348868908092, abs=1e-9)


def test_true_curves_are_calibrated() -> None:
    draw = np.random.default_rng(0)
    rate = np.exp(draw.normal(size=4000))
    died, left = draw.exponential(1 / rate), draw.exponential(2.0, size=4000)
    truth = torch.from_numpy(np.stack([np.minimum(died, left), died <= left], axis=1))
    grid = torch.tensor([0.2, 0.5, 1.0])
    curve = torch.exp(-torch.from_numpy(rate)[:, None] * grid)
    prediction = torch.cat([torch.from_numpy(rate)[:, None], curve], dim=1)
    once = torch.ones(1, 4000, dtype=torch.float64)
    right = float(calibration_at(grid, 1)(prediction, truth, once))
    assert right < 0.03
    prediction[:, 1:] = prediction[:, 1:] ** 2
    assert float(calibration_at(grid, 1)(prediction, truth, once)) > 4 * right


def test_discrete_hazard_loss_is_the_step_likelihood() -> None:
    edges = torch.tensor([1.0, 2.0, 2.0, 4.0], dtype=torch.float64)
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    when, died = torch.tensor([0.5, 2.0, 3.0, 3.0, 9.0], dtype=torch.float64), torch.tensor([True, True, False, True, True])
    hazard = logits.sigmoid().numpy()
    wanted = [
        -np.log(hazard[0, 0]),
        -np.log(1 - hazard[1, 0]) - np.log(hazard[1, 1]),
        -np.log(1 - hazard[2, 0]) - np.log(1 - hazard[2, 1]),  # the third ends where the second does: it is none
        -np.log(1 - hazard[3, 0]) - np.log(1 - hazard[3, 1]) - np.log(hazard[3, 3]),
        -np.log(1 - hazard[4, [0, 1, 3]]).sum(),  # after the last one nothing is known of it
    ]
    assert hazard_loss(logits, when, died, edges).tolist() == pytest.approx(wanted)
    curve = lived(logits, edges)
    assert curve[0].tolist() == pytest.approx(
        np.cumprod([1 - hazard[0, 0], 1 - hazard[0, 1], 1, 1 - hazard[0, 3]]).tolist()
    )


def test_expected_events_sum_to_observed_events() -> None:
    target = np.stack([TIME, EVENT], axis=1)
    rate, exposure = exposed(target, np.ones(40))
    assert float((rate * exposure).sum()) == EVENT.sum()
    assert float(exposure.sum()) == pytest.approx(EVENT.sum())
    some = X[:, 0] > 0
    assert (rate * exposure)[some].sum() / exposure[some].sum() > 1.2  # they die sooner than others

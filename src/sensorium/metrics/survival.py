"""Scores of predicted risks and survival curves, where some rows are censored; as formulas of ``metrics/weighted.py``.

Predictions are ``[B, 1 + G]``: the risk, larger where the event is expected sooner, and the chance to live past each of
G times. Truths are ``[B, 2]``: time, and 1 where the event happened then, 0 where the row was last seen then. Chances of
being censored are those of the scored rows themselves (Kaplan-Meier), resample by resample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.metrics.weighted import Measure, ratio

BLOCK = 1_000_000
"""Pairs of rows that are looked at together."""
RARE = 0.02
"""No row counts more than as one of so few that are still watched."""
GROUPS = 10


def kaplan_meier(time: Tensor, event: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Times ``[U]`` in order, and the share that lives past each ``[R, U]``, for each resample of the rows.

    Args:
        time: ``[B]``.
        event: ``[B]`` bool.
        weight: ``[R, B]`` float64.
    """
    times, place = torch.unique(time, return_inverse=True)
    size = (weight.shape[0], len(times))
    died = weight.new_zeros(size).index_add(1, place, weight * event)
    gone = weight.new_zeros(size).index_add(1, place, weight)
    at_risk = gone.flip(1).cumsum(1).flip(1)
    left = torch.where(at_risk > 0, 1 - died / at_risk.clamp_min(1e-300), 1.0)
    return times, left.clamp(0.0, 1.0).cumprod(dim=1)


def _watched(truth: Tensor, weight: Tensor, at: Tensor, *, before: bool) -> Tensor:
    """The share of rows not censored by the times ``at`` ``[N]``, or just ``before`` them ``[R, N]``."""
    times, share = kaplan_meier(truth[:, 0], truth[:, 1] < 0.5, weight)
    known = torch.cat([share.new_ones(share.shape[0], 1), share], dim=1)
    return known[:, torch.searchsorted(times, at.contiguous(), right=not before)].clamp_min(RARE)


def c_index(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Harrell's concordance index of risks ``prediction`` and times and events ``truth``, with weights ``weight`` ``[R,
    B]``: of the comparable pairs the share in which the earlier event has the larger risk; ties count half. Source:
    Harrell et al. 1982, https://doi.org/10.1001/jama.1982.03320430047030."""
    time, event = truth[:, 0], truth[:, 1] > 0.5
    # An event at the time another row was last seen is known to be earlier.
    return _concordance(prediction[:, 0], time, event, weight, weight, ties=True)


def uno_c_index(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Uno's concordance index of ``prediction`` and ``truth`` with weights ``weight`` ``[R, B]``: as ``c_index``, with
    events weighted by the inverse probability of being uncensored, so that it does not depend on the censoring.
    Source: Uno et al. 2011, https://doi.org/10.1002/sim.4154."""
    time, event = truth[:, 0], truth[:, 1] > 0.5
    share = _watched(truth, weight, time, before=True)
    return _concordance(prediction[:, 0], time, event, weight / share.square(), weight, ties=False)


def _concordance(risk: Tensor, time: Tensor, event: Tensor, early: Tensor, late: Tensor, *, ties: bool) -> Tensor:
    """``early``, ``late``: ``[R, B]``, how much a row counts as the first and as the second of a pair."""
    above, below = early.new_zeros(early.shape[0]), early.new_zeros(early.shape[0])
    first = event.nonzero()[:, 0]
    for index in torch.split(first, max(1, BLOCK // max(1, len(risk)))):
        later = time > time[index, None]
        if ties:
            later |= (time == time[index, None]) & ~event
        right = (risk[index, None] > risk).double() + 0.5 * (risk[index, None] == risk).double()
        pairs = later.double()
        above += (early[:, index] * (late @ (right * pairs).T)).sum(dim=1)
        below += (early[:, index] * (late @ pairs.T)).sum(dim=1)
    return ratio(above, below)


def brier_over_time(grid: Tensor) -> Measure:
    """The squared error of the survival curve against what happened, averaged over the time up to the last of ``grid``.

    Rows that were censored before a time say nothing of it; the others count for them. Never informed: 0.25 at most times.
    Source: Graf et al. 1999, https://doi.org/10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5.

    Args:
        grid: ``[G]`` times of the curve, in order, in the unit of the truths.
    """

    def measure(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        at, curve = grid.double(), prediction[:, 1:].double()
        time, event = truth[:, 0].double(), truth[:, 1] > 0.5
        own = _watched(truth, weight, truth[:, 0], before=True)  # [R, B]
        then = _watched(truth, weight, at.to(truth), before=False)  # [R, G]
        dead = (time[:, None] <= at) & event[:, None]
        alive = time[:, None] > at
        errors = (weight / own) @ (curve.square() * dead) + (weight @ ((1 - curve).square() * alive)) / then
        each = ratio(errors, weight.sum(dim=1, keepdim=True).expand_as(errors))
        span = at[-1] - at[0]
        if len(at) < 2 or not float(span) > 0:
            return each[:, -1]
        return torch.trapezoid(each, at, dim=1) / span

    return measure


def calibration_at(grid: Tensor, place: int) -> Measure:
    """How far predicted chances to live past one of the times are from the shares that do (Kaplan-Meier), averaged over
    ten groups of like prediction.

    Args:
        grid: ``[G]`` times of the curve, in the unit of the truths.
        place: Which of them.
    """

    def measure(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        said, total = prediction[:, 1 + place].double(), weight.new_zeros(weight.shape[0])
        for index in said.argsort().chunk(min(GROUPS, len(said))):
            own = weight[:, index]
            seen = alive_at(truth[index], own, grid[place])
            mean = ratio(own @ said[index], own.sum(dim=1))
            total += torch.where(own.sum(dim=1) > 0, (mean - seen).abs() * own.sum(dim=1), 0.0)
        return ratio(total, weight.sum(dim=1))

    return measure


def alive_at(truth: Tensor, weight: Tensor, at: Tensor) -> Tensor:
    """The Kaplan-Meier estimate ``[R]`` of survival past the time ``at``, from times and events ``truth`` with weights
    ``weight``."""
    times, share = kaplan_meier(truth[:, 0], truth[:, 1] > 0.5, weight)
    known = torch.cat([share.new_ones(share.shape[0], 1), share], dim=1)
    return known[:, int(torch.searchsorted(times, at.to(times).reshape(1), right=True))]

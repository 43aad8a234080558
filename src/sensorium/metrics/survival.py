"""Survival metrics under censoring, as formulas of ``metrics/weighting.py``.

Predictions are ``[B, 1 + G]``: the risk (larger for an earlier expected event) and the survival probability at each of G
times. Truths are ``[B, 2]``: time, and 1 for an event or 0 for censoring at that time. The censoring distribution is
estimated from the scored rows (Kaplan-Meier), separately for each resample. Events precede censoring at the same time, so a
row with an event at t was observed with the probability that censoring comes at t or later.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.metrics.weighting import Measure, ratio

BLOCK = 1_000_000
"""Number of pairs of rows processed at a time."""
RARE = 0.02
"""Lower bound of the probability of remaining uncensored, which limits the inverse weights."""
GROUPS = 10


def kaplan_meier(time: Tensor, event: Tensor, weight: Tensor, *, others_first: bool = False) -> tuple[Tensor, Tensor]:
    """Return the sorted distinct times ``[U]`` and the Kaplan-Meier survival after each ``[R, U]``, for each resample.

    Args:
        time: Times ``[B]``.
        event: Whether the event happened ``[B]``, bool.
        weight: Weights of the rows in each resample ``[R, B]``, float64.
        others_first: Whether rows without an event are no longer at risk at their own time, as for the distribution of
            censoring, where ``event`` is censoring.
    """
    times, place = torch.unique(time, return_inverse=True)
    size = (weight.shape[0], len(times))
    died = weight.new_zeros(size).index_add(1, place, weight * event)
    gone = weight.new_zeros(size).index_add(1, place, weight)
    at_risk = gone.flip(1).cumsum(1).flip(1)
    if others_first:
        at_risk = at_risk - (gone - died)
    left = torch.where(at_risk > 0, 1 - died / at_risk.clamp_min(1e-300), 1.0)
    return times, left.clamp(0.0, 1.0).cumprod(dim=1)


def _watched(truth: Tensor, weight: Tensor, at: Tensor, *, before: bool) -> Tensor:
    """The probability ``[R, N]`` of remaining uncensored at the times ``at`` ``[N]``, or just ``before`` them."""
    times, share = kaplan_meier(truth[:, 0], truth[:, 1] < 0.5, weight, others_first=True)
    known = torch.cat([share.new_ones(share.shape[0], 1), share], dim=1)
    return known[:, torch.searchsorted(times, at.contiguous(), right=not before)].clamp_min(RARE)


def c_index(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return Harrell's concordance index: the share of comparable pairs with risks in the right order; ties count half.

    Source: Harrell et al. 1982, https://doi.org/10.1001/jama.1982.03320430047030.

    Args:
        prediction: Risk and survival curve ``[B, 1 + G]``.
        truth: Time and event ``[B, 2]``.
        weight: Weights of the rows in each resample ``[R, B]``.
    """
    time, event = truth[:, 0], truth[:, 1] > 0.5
    return _concordance(prediction[:, 0], time, event, weight, weight)


def uno_c_index(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return Uno's concordance index: inverse-probability weights make it independent of the censoring distribution.

    Source: Uno et al. 2011, https://doi.org/10.1002/sim.4154.

    Args:
        prediction: Risk and survival curve ``[B, 1 + G]``.
        truth: Time and event ``[B, 2]``.
        weight: Weights of the rows in each resample ``[R, B]``.
    """
    time, event = truth[:, 0], truth[:, 1] > 0.5
    share = _watched(truth, weight, time, before=True)
    return _concordance(prediction[:, 0], time, event, weight / share.square(), weight)


def _concordance(risk: Tensor, time: Tensor, event: Tensor, early: Tensor, late: Tensor) -> Tensor:
    """Weighted concordance; ``early``, ``late`` ``[R, B]``: weights of a row as the first and second of a pair."""
    above, below = early.new_zeros(early.shape[0]), early.new_zeros(early.shape[0])
    first = event.nonzero()[:, 0]
    for index in torch.split(first, max(1, BLOCK // max(1, len(risk)))):
        # An event at the time at which another row is censored counts as earlier.
        later = (time > time[index, None]) | ((time == time[index, None]) & ~event)
        right = (risk[index, None] > risk).double() + 0.5 * (risk[index, None] == risk).double()
        pairs = later.double()
        above += (early[:, index] * (late @ (right * pairs).T)).sum(dim=1)
        below += (early[:, index] * (late @ pairs.T)).sum(dim=1)
    return ratio(above, below)


def brier_over_time(grid: Tensor) -> Measure:
    """Return the integrated Brier score as a measure: squared error of the survival curve, averaged over time.

    Censored rows are handled by inverse-probability weights. A constant prediction of 0.5 scores 0.25.
    Source: Graf et al. 1999, https://doi.org/10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5.

    Args:
        grid: Times of the curve ``[G]``, increasing, in the unit of the truths.
    """

    def measure(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        at, curve = grid.double(), prediction[:, 1:].double()
        time, event = truth[:, 0].double(), truth[:, 1] > 0.5
        own = _watched(truth, weight, truth[:, 0], before=True)  # [R, B]
        then = _watched(truth, weight, at.to(truth), before=False)  # [R, G]
        dead = (time[:, None] <= at) & event[:, None]
        alive = time[:, None] > at
        errors = (weight / own) @ (curve.square() * dead) + (weight @ ((1 - curve).square() * alive)) / then
        by_time = ratio(errors, weight.sum(dim=1, keepdim=True).expand_as(errors))
        span = at[-1] - at[0]
        if len(at) < 2 or not float(span) > 0:
            return by_time[:, -1]
        return torch.trapezoid(by_time, at, dim=1) / span

    return measure


def calibration_at(grid: Tensor, place: int) -> Measure:
    """Return the calibration error at one time as a measure: the mean absolute difference between predicted survival and
    the Kaplan-Meier estimate over ten groups of similar predictions.

    Args:
        grid: Times of the curve ``[G]``, in the unit of the truths.
        place: Index of the time.
    """

    def measure(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        predicted, total = prediction[:, 1 + place].double(), weight.new_zeros(weight.shape[0])
        for index in predicted.argsort().chunk(min(GROUPS, len(predicted))):
            own = weight[:, index]
            observed = alive_at(truth[index], own, grid[place])
            mean = ratio(own @ predicted[index], own.sum(dim=1))
            total += torch.where(own.sum(dim=1) > 0, (mean - observed).abs() * own.sum(dim=1), 0.0)
        return ratio(total, weight.sum(dim=1))

    return measure


def alive_at(truth: Tensor, weight: Tensor, at: Tensor) -> Tensor:
    """Return the Kaplan-Meier survival ``[R]`` at a time.

    Args:
        truth: Time and event ``[B, 2]``.
        weight: Weights of the rows in each resample ``[R, B]``.
        at: The time, a scalar.
    """
    times, share = kaplan_meier(truth[:, 0], truth[:, 1] > 0.5, weight)
    known = torch.cat([share.new_ones(share.shape[0], 1), share], dim=1)
    return known[:, int(torch.searchsorted(times, at.to(times).reshape(1), right=True))]

"""Likelihoods and cumulative hazards for censored survival data.

Most functions use only the order of times, so no unit is assumed. A row is *censored* if the event had not happened when
it was last observed. Risk scores are log hazards, up to a constant.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def exact(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in double precision, where the device has it."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def partial_loss(
    score: Tensor, time: Tensor, event: Tensor, weight: Tensor | None = None, stratum: Tensor | None = None
) -> Tensor:
    """Negative log partial likelihood of Cox's model, as the contribution of each row ``[B]``; 0 for censored rows.

    Ties are handled by Efron's method.
    Sources: Cox 1972, https://doi.org/10.1111/j.2517-6161.1972.tb00899.x; Efron 1977,
    https://doi.org/10.1080/01621459.1977.10480613 (ties); case weights as in Therneau & Grambsch 2000.

    Args:
        score: ``[B]`` log hazards.
        time: ``[B]`` time of the event or of censoring.
        event: ``[B]`` bool.
        weight: ``[B]`` row weights; 1 by default.
        stratum: ``[B]`` integers; rows are only compared within a stratum. None: one stratum.
    """
    weight = torch.ones_like(score) if weight is None else weight
    if stratum is None:
        return _partial(exact(score), time, event, exact(weight))
    out = exact(torch.zeros_like(score))
    for one in torch.unique(stratum):
        index = (stratum == one).nonzero()[:, 0]
        out = out.index_copy(0, index, _partial(exact(score[index]), time[index], event[index], exact(weight[index])))
    return out


def _partial(score: Tensor, time: Tensor, event: Tensor, weight: Tensor) -> Tensor:
    use = event & (weight > 0)
    if not bool(use.any()):
        return score * 0.0
    order = time.argsort(descending=True, stable=True)
    score_, use_, weight_ = score[order], use[order], weight[order]
    _, group, size = torch.unique_consecutive(time[order], return_inverse=True, return_counts=True)
    # Log weight of the risk set at each time: the cumulative sum up to the last row of that time.
    logs = score_ + weight_.clamp_min(1e-300 if score.dtype == torch.float64 else 1e-38).log()
    at_risk = logs.logcumsumexp(0)[size.cumsum(0) - 1]
    died = use_.to(score.dtype)
    count = torch.zeros_like(at_risk).index_add(0, group, died)
    heavy = torch.zeros_like(at_risk).index_add(0, group, died * weight_)
    part = torch.zeros_like(at_risk).index_add(0, group, died * (logs - at_risk[group]).exp())  # share of the risk set
    # Efron: for the l-th of d tied events, l/d of them have left the risk set.
    before = died.cumsum(0) - died
    first = torch.cat([count.new_zeros(1), count.cumsum(0)[:-1]])
    gone = (before - first[group]) / count[group].clamp_min(1.0)
    left = at_risk[group] + torch.log1p(-(gone * part[group]).clamp(max=1 - 1e-12))
    each = torch.where(use_, heavy[group] / count[group].clamp_min(1.0) * left - weight_ * score_, torch.zeros_like(left))
    return torch.zeros_like(each).index_copy(0, order, each)


def breslow(score: Tensor, time: Tensor, event: Tensor, weight: Tensor, grid: Tensor) -> Tensor:
    """Breslow estimate of the baseline cumulative hazard at the times ``grid`` ``[G]``, non-decreasing.

    With scores of 0 it is the Nelson-Aalen estimate. Source: Breslow 1972, in the discussion of Cox.

    Args:
        score: ``[B]`` log hazards.
        time: ``[B]`` time of the event or of censoring.
        event: ``[B]`` bool.
        weight: ``[B]`` row weights.
        grid: Times to evaluate at.
    """
    score, weight = exact(score), exact(weight)
    if not len(score):
        return score.new_zeros(len(grid))
    order = time.argsort(descending=True, stable=True)
    time_, weight_ = time[order], weight[order]
    _, group, size = torch.unique_consecutive(time_, return_inverse=True, return_counts=True)
    top = score.max()
    at_risk = (weight_ * (score[order] - top).exp()).cumsum(0)[size.cumsum(0) - 1]
    died = torch.zeros_like(at_risk).index_add(0, group, weight_ * event[order])
    step = (died / at_risk.clamp_min(1e-300 if score.dtype == torch.float64 else 1e-38)).flip(0) * (-top).exp()
    moments = time_[size.cumsum(0) - 1].flip(0).contiguous()
    known = torch.cat([step.new_zeros(1), step.cumsum(0)])
    return known[torch.searchsorted(moments, grid.to(moments).contiguous(), right=True)]


def exposed(target: NDArray[Any], weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert survival targets to a Poisson target: events per unit of cumulative hazard, and the exposure ``[rows]``.

    The exposure-weighted mean is 1 over all rows, and the hazard ratio for a subset; so trees with a Poisson loss learn
    hazards. Source: LeBlanc & Crowley 1992, https://doi.org/10.2307/2532300.

    Args:
        target: ``[rows, 2]``, time and 1 or 0.
        weight: ``[rows]``.
    """
    time, event = torch.from_numpy(target[:, 0]), torch.from_numpy(target[:, 1] > 0.5)
    lived_through = breslow(torch.zeros(len(time)), time, event, torch.from_numpy(weight), time).numpy()
    # Rows censored before the first event have no exposure and no influence.
    known = np.maximum(lived_through, 1e-9)
    return (target[:, 1] > 0.5) / known, weight * known


def hazard_loss(logits: Tensor, time: Tensor, event: Tensor, edges: Tensor) -> Tensor:
    """Negative log-likelihood of each row ``[B]`` in a discrete-time hazard model with one logit per interval.

    Source: Gensheimer & Narasimhan 2019, https://doi.org/10.7717/peerj.6257.

    Args:
        logits: ``[B, K]``.
        time: ``[B]``.
        event: ``[B]`` bool. An event after the last interval counts as censored there.
        edges: ``[K]`` ends of the intervals in order; of equal ends only the first counts.
    """
    place = torch.searchsorted(edges.contiguous(), time.to(edges).contiguous())
    steps = torch.arange(len(edges), device=logits.device)
    real = intervals(edges)
    through = (steps < place[:, None]) & real
    presence = (steps == place[:, None]) & event[:, None]
    return (F.softplus(logits) * through + F.softplus(-logits) * presence).sum(dim=1)


def lived(logits: Tensor, edges: Tensor) -> Tensor:
    """Return the probability of surviving to the end of each interval ``[B, K]``, from ``logits`` ``[B, K]`` and the
    interval ``edges`` ``[K]``.
    """
    return (-F.softplus(logits) * intervals(edges)).cumsum(dim=1).exp()


def intervals(edges: Tensor) -> Tensor:
    """Which intervals ending at ``edges`` ``[K]`` are not empty: ``[K]`` bool, False where an end equals the one
    before.
    """
    return torch.cat([torch.ones(1, dtype=torch.bool, device=edges.device), edges.diff() > 0])[: len(edges)]

"""Risk over time from rows that are watched until an event, or only until they leave: likelihoods and cumulative hazards.

Times need no unit in most of it: only their order counts. A row is *censored* where the event had not happened when it was
last seen. Risk scores are logarithms of the hazard, up to a constant.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def exact(tensor: Tensor) -> Tensor:
    """``tensor`` in double precision, where the device supports it."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def partial_loss(
    score: Tensor, time: Tensor, event: Tensor, weight: Tensor | None = None, stratum: Tensor | None = None
) -> Tensor:
    """Minus the logarithm of Cox's partial likelihood, as what each row adds to it ``[B]``; censored rows add nothing.

    Events at the same time are treated as Efron does. With ``stratum`` rows are only compared with those of their own.
    Sources: Cox 1972, https://doi.org/10.1111/j.2517-6161.1972.tb00899.x; Efron 1977,
    https://doi.org/10.1080/01621459.1977.10480613 (ties); case weights as in Therneau & Grambsch 2000.

    Args:
        score: ``[B]`` log hazards.
        time: ``[B]`` when the event happened, or when the row was last seen.
        event: ``[B]`` bool.
        weight: ``[B]`` how much each row counts; all 1 by default.
        stratum: ``[B]`` whole numbers.
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
    # The logarithm of what all who were still watched at a time weigh: up to the last row of that time.
    logs = score_ + weight_.clamp_min(1e-300 if score.dtype == torch.float64 else 1e-38).log()
    at_risk = logs.logcumsumexp(0)[size.cumsum(0) - 1]
    died = use_.to(score.dtype)
    count = torch.zeros_like(at_risk).index_add(0, group, died)
    heavy = torch.zeros_like(at_risk).index_add(0, group, died * weight_)
    part = torch.zeros_like(at_risk).index_add(0, group, died * (logs - at_risk[group]).exp())  # of the risk set
    # The l-th of d events at one time sees l/d of these events gone already.
    before = died.cumsum(0) - died
    first = torch.cat([count.new_zeros(1), count.cumsum(0)[:-1]])
    gone = (before - first[group]) / count[group].clamp_min(1.0)
    left = at_risk[group] + torch.log1p(-(gone * part[group]).clamp(max=1 - 1e-12))
    each = torch.where(use_, heavy[group] / count[group].clamp_min(1.0) * left - weight_ * score_, torch.zeros_like(left))
    return torch.zeros_like(each).index_copy(0, order, each)


def breslow(score: Tensor, time: Tensor, event: Tensor, weight: Tensor, grid: Tensor) -> Tensor:
    """Breslow's estimate of the cumulative baseline hazard at the times ``grid`` ``[G]``, from risk scores ``score``,
    ``time``, ``event`` and ``weight`` of each row ``[B]``.

    With scores of 0 it is the Nelson-Aalen estimate. Source: Breslow 1972, in the discussion of Cox.
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
    """Survival as counting: events per unit of hazard lived through, and how much of it each row lived through ``[rows]``.

    The mean of the first, weighed by the second, is 1 over all rows; of some rows it is their hazard ratio to all. So trees
    for counts (Poisson) learn hazards. Source: LeBlanc & Crowley 1992, https://doi.org/10.2307/2532300.

    Args:
        target: ``[rows, 2]``, time and 1 or 0.
        weight: ``[rows]``.
    """
    time, event = torch.from_numpy(target[:, 0]), torch.from_numpy(target[:, 1] > 0.5)
    lived_through = breslow(torch.zeros(len(time)), time, event, torch.from_numpy(weight), time).numpy()
    # Who left before the first event lived through nothing, and says nothing.
    known = np.maximum(lived_through, 1e-9)
    return (target[:, 1] > 0.5) / known, weight * known


def hazard_loss(logits: Tensor, time: Tensor, event: Tensor, edges: Tensor) -> Tensor:
    """Minus the log-likelihood of each row ``[B]`` where the hazard of every interval has a logit of its own.

    A row lives through all intervals before that of its time, and dies in it or is censored in it.
    Source: Gensheimer & Narasimhan 2019, https://doi.org/10.7717/peerj.6257.

    Args:
        logits: ``[B, K]``.
        time: ``[B]``.
        event: ``[B]`` bool. An event after the last interval counts as censored there.
        edges: ``[K]`` where intervals end, in order; of several that end at once only the first is one.
    """
    place = torch.searchsorted(edges.contiguous(), time.to(edges).contiguous())
    steps = torch.arange(len(edges), device=logits.device)
    real = intervals(edges)
    through = (steps < place[:, None]) & real
    here = (steps == place[:, None]) & event[:, None]
    return (F.softplus(logits) * through + F.softplus(-logits) * here).sum(dim=1)


def lived(logits: Tensor, edges: Tensor) -> Tensor:
    """The probability of surviving each interval's end ``[B, K]``, from hazard ``logits`` ``[B, K]`` and ``edges``."""
    return (-F.softplus(logits) * intervals(edges)).cumsum(dim=1).exp()


def intervals(edges: Tensor) -> Tensor:
    """Which of the intervals that end at ``edges`` ``[K]`` are any ``[K]`` bool: not those ending where one did before."""
    return torch.cat([torch.ones(1, dtype=torch.bool, device=edges.device), edges.diff() > 0])[: len(edges)]

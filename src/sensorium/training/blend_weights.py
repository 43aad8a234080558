"""How much each of several answers counts: what loses least on rows that none has learnt from, shrunk towards all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.contracts import Task
from sensorium.core.expert import Response
from sensorium.nn.survival_likelihood import partial_loss

PRIOR = 4.0
"""So many rows that each part answers equally well are imagined beside the real ones: few rows are not believed much."""
RIDGE = 10.0
"""How many rows' worth of loss it costs to make a blend e times as sure as it is."""
LIMIT = 1.0
"""The logarithm of how much surer or less sure a blend may be made, at most."""

Loss = Callable[[Tensor], Tensor]


def loss_of(response: Response, truth: NDArray[Any], weight: NDArray[np.float64], spread: float = 1.0) -> Loss:
    """The negative log-likelihood of rows given outputs ``[n, K]``, summed; weights are made 1 on average.

    ``spread``: of a number, the variance of what is not explained.
    """
    target = torch.from_numpy(np.ascontiguousarray(truth))
    counts = torch.from_numpy(weight / max(weight.mean(), 1e-12)) if len(weight) else torch.zeros(0, dtype=torch.float64)

    def loss(output: Tensor) -> Tensor:
        output = output.double()
        if response.kind in ("classes", "ordered"):
            each = F.cross_entropy(output, target.long(), reduction="none")
        elif response.kind == "labels":
            each = F.binary_cross_entropy_with_logits(output, target.double(), reduction="none").mean(dim=1)
        elif response.kind == "risk":
            return partial_loss(output[:, 0], target[:, 0], target[:, 1] > 0.5, counts).sum()
        else:
            each = 0.5 * (output[:, 0] - target.double()).square() / spread
        return (each * counts).sum()

    return loss


def blend_shares(
    task: Task[Any], response: Response, said: Sequence[Tensor], truth: NDArray[Any], weight: NDArray[np.float64]
) -> Tensor:
    """The share of each part ``[P]`` float32, summing to 1, that makes their mean (``Task.merge``) lose least.

    A Dirichlet prior of ``PRIOR`` rows for each part keeps shares near all alike where rows are few.
    """
    parts = len(said)
    alike = torch.full((parts,), 1 / parts)
    if parts == 1 or not len(truth):
        return alike
    each = [part.double() for part in said]
    spread = 1.0
    if response.kind == "number":
        goal = torch.from_numpy(truth).double()
        spread = max(min(float((part[:, 0] - goal).square().mean()) for part in each), 1e-12)
    loss = loss_of(response, truth, weight, spread)
    score = torch.zeros(parts, dtype=torch.float64, requires_grad=True)

    def objective() -> Tensor:
        share = score.log_softmax(dim=0)
        together = task.merge(each, share.exp().expand(len(truth), -1))
        return loss(together) - PRIOR * share.sum()

    if not _minimise(objective, [score]):
        return alike
    return score.detach().softmax(dim=0).float()


def sharpening_factor(
    task: Task[Any], response: Response, output: Tensor, truth: NDArray[Any], weight: NDArray[np.float64]
) -> float:
    """By how much the log-odds of a blend are to be multiplied; 1 where rows are few, and for numbers."""
    if response.kind == "number" or not len(truth):
        return 1.0
    loss, given = loss_of(response, truth, weight), output.double()
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def objective() -> Tensor:
        return loss(task.surer(given, scale.exp().expand(len(given), 1))) + RIDGE * scale.square()

    if not _minimise(objective, [scale]):
        return 1.0
    return float(scale.detach().clamp(-LIMIT, LIMIT).exp())


def _minimise(objective: Callable[[], Tensor], found: list[Tensor]) -> bool:
    """Minimise a smooth function in place; whether what was found is finite."""
    search = torch.optim.LBFGS(found, max_iter=100, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        search.zero_grad()
        value = objective()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        search.step(step)  # type: ignore[no-untyped-call]
    return all(bool(value.isfinite().all()) for value in found)

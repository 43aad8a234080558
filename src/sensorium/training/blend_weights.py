"""Blend weights: the share of each predictor that minimises the loss on unseen rows, shrunk towards equal shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.expert import Response
from sensorium.core.task import Task
from sensorium.nn.survival_likelihood import partial_loss

PRIOR = 4.0
"""Strength of the Dirichlet prior per part, in rows: with few rows, shares stay near equal."""
RIDGE = 10.0
"""Penalty, in rows' worth of loss, of scaling the log-odds of a blend by e."""
LIMIT = 1.0
"""Maximum absolute logarithm of the factor on the log-odds."""

Loss = Callable[[Tensor], Tensor]


def loss_of(response: Response, truth: NDArray[Any], weight: NDArray[np.float64], spread: float = 1.0) -> Loss:
    """Return the summed negative log-likelihood as a function of outputs ``[rows, K]``.

    Args:
        response: What is predicted: classes, labels, a number, a risk.
        truth: The targets of the rows.
        weight: Row weights ``[rows]``; scaled to a mean of 1.
        spread: For a number, the variance of the residuals.
    """
    target = torch.from_numpy(np.ascontiguousarray(truth))
    counts = torch.from_numpy(weight / max(weight.mean(), 1e-12)) if len(weight) else torch.zeros(0, dtype=torch.float64)

    def loss(output: Tensor) -> Tensor:
        output = output.double()
        if response.kind in ("classes", "ordered"):
            losses = F.cross_entropy(output, target.long(), reduction="none")
        elif response.kind == "labels":
            losses = F.binary_cross_entropy_with_logits(output, target.double(), reduction="none").mean(dim=1)
        elif response.kind == "risk":
            return partial_loss(output[:, 0], target[:, 0], target[:, 1] > 0.5, counts).sum()
        else:
            losses = 0.5 * (output[:, 0] - target.double()).square() / spread
        return (losses * counts).sum()

    return loss


def blend_shares(
    task: Task[Any],
    response: Response,
    outputs: Sequence[Tensor],
    truth: NDArray[Any],
    weight: NDArray[np.float64],
    sizes: Sequence[int] | None = None,
) -> Tensor:
    """Return the shares ``[P]`` (float32, sum 1) of the parts that minimise the loss of their mean (``Task.merge``).

    A Dirichlet prior of ``PRIOR`` rows per part keeps shares near equal where rows are few; a part that is itself a blend
    counts as many times as it has parts.

    Args:
        task: Merges the outputs of the parts.
        response: What is predicted.
        outputs: Outputs of each part ``[rows, K]``.
        truth: The targets of the rows.
        weight: Row weights ``[rows]``.
        sizes: Number of parts that each output is a blend of; None: all are single.
    """
    parts = len(outputs)
    counts = torch.ones(parts) if sizes is None else torch.tensor(sizes, dtype=torch.float32)
    equal = counts / counts.sum()
    if parts == 1 or not len(truth):
        return equal
    predictions = [part.double() for part in outputs]
    spread = 1.0
    if response.kind == "number":
        goal = torch.from_numpy(truth).double()
        spread = max(min(float((part[:, 0] - goal).square().mean()) for part in predictions), 1e-12)
    loss = loss_of(response, truth, weight, spread)
    score = torch.zeros(parts, dtype=torch.float64, requires_grad=True)

    def objective() -> Tensor:
        share = score.log_softmax(dim=0)
        together = task.merge(predictions, share.exp().expand(len(truth), -1))
        return loss(together) - PRIOR * (counts * share).sum()

    if not _minimise(objective, score):
        return equal
    return score.detach().softmax(dim=0).float()


def sharpening_factor(
    task: Task[Any], response: Response, output: Tensor, truth: NDArray[Any], weight: NDArray[np.float64]
) -> float:
    """Return the factor on the log-odds of a blend that minimises the loss; 1 for numbers or without rows.

    Class weights do not count here: the confidence is to agree with the frequencies of the rows as they come.

    Args:
        task: Scales log-odds (``Task.scale_confidence``).
        response: What is predicted.
        output: Outputs of the blend ``[rows, K]``.
        truth: The targets of the rows.
        weight: Row weights ``[rows]``, class weights included.
    """
    if response.kind == "number" or not len(truth):
        return 1.0
    if response.weights:
        weight = weight / np.array(response.weights)[truth]
    loss, logits = loss_of(response, truth, weight), output.double()
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def objective() -> Tensor:
        return loss(task.scale_confidence(logits, scale.exp().expand(len(logits), 1))) + RIDGE * scale.square()

    if not _minimise(objective, scale):
        return 1.0
    return float(scale.detach().clamp(-LIMIT, LIMIT).exp())


def _minimise(objective: Callable[[], Tensor], variable: Tensor) -> bool:
    """Minimise a smooth function of the float64 ``variable`` in place; return whether the result is finite."""
    from scipy.optimize import minimize

    def value_and_slope(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        with torch.no_grad():
            variable.copy_(torch.from_numpy(at).view_as(variable))
        with torch.enable_grad():
            value = objective()
            (slope,) = torch.autograd.grad(value, variable)
        return float(value.detach()), slope.reshape(-1).numpy()

    found = minimize(value_and_slope, variable.detach().reshape(-1).numpy().copy(), jac=True, method="L-BFGS-B")
    with torch.no_grad():
        variable.copy_(torch.from_numpy(found.x).view_as(variable))
    return bool(np.isfinite(found.fun)) and bool(variable.isfinite().all())

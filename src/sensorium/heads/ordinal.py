"""Ordered classes: cumulative link, decision rules, and metrics of the distance between predicted and true class.

Source: McCullagh, Regression Models for Ordinal Data, https://doi.org/10.1111/j.2517-6161.1980.tb01109.x, § 2.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sensorium.metrics.classification import confusion
from sensorium.metrics.weighting import Measure, mean, ratio

Decision = Literal["likeliest", "median", "mean"]


def cumulative_link(score: Tensor, cuts: Tensor) -> Tensor:
    """Return log class probabilities ``[B, K]`` of ``score`` ``[B, 1]`` for increasing ``cuts`` ``[K - 1]``.

    ``P(class <= k) = sigmoid(cut_k - score)``. A class between two cuts has the difference of two sigmoids, written as a
    product, ``sigmoid(upper) sigmoid(-lower) (1 - exp(lower - upper))``, which stays accurate far from the cuts.
    """
    below, above = F.logsigmoid(cuts - score), F.logsigmoid(score - cuts)
    rows = score.shape[0]
    upper = torch.cat([below, below.new_zeros(rows, 1)], dim=1)
    lower = torch.cat([above.new_zeros(rows, 1), above], dim=1)
    middle = torch.log(-torch.expm1(-cuts.diff()))
    between = torch.cat([middle.new_zeros(1), middle, middle.new_zeros(1)]) if len(cuts) else middle.new_zeros(1)
    return upper + lower + between


def cut_points(shares: Tensor) -> Tensor:
    """Return the cuts ``[K - 1]`` for which a score of 0 has the class probabilities ``shares`` ``[K]``, all above 0."""
    return shares.cumsum(dim=0)[:-1].clamp(1e-6, 1 - 1e-6).logit()


def decided(chances: Tensor, how: Decision) -> Tensor:
    """Return the predicted class ``[B]``.

    Args:
        chances: Probabilities ``[B, K]``.
        how: ``likeliest`` maximises accuracy, ``median`` minimises the mean absolute distance, ``mean`` (the class nearest
            to the mean) the mean squared distance.
    """
    if how == "likeliest":
        return chances.argmax(dim=1)
    if how == "median":
        return (chances.cumsum(dim=1) < 0.5).sum(dim=1).clamp(max=chances.shape[1] - 1)
    steps = torch.arange(chances.shape[1], device=chances.device, dtype=chances.dtype)
    return (chances @ steps).round().long()


def on_decision(measure: Measure, how: Decision) -> Measure:
    """Return ``measure`` applied to the class predicted by the rule ``how`` instead of the most likely."""

    def measured(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        return measure(F.one_hot(decided(prediction, how), prediction.shape[1]).to(prediction), truth, weight)

    return measured


def quadratic_kappa(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return Cohen's kappa with quadratic weights ``[R]``: 1 is perfect, 0 is chance with the same class shares.

    Source: Cohen, Weighted kappa, https://doi.org/10.1037/h0026256.

    Args:
        prediction: Probabilities ``[B, K]``.
        truth: Class indices ``[B]``.
        weight: Weights of the rows in each resample ``[R, B]``.
    """
    table = confusion(prediction, truth, weight)
    steps = torch.arange(table.shape[1], dtype=table.dtype, device=table.device)
    far = (steps[:, None] - steps).square()
    chance = table.sum(dim=2)[:, :, None] * table.sum(dim=1)[:, None, :]
    seen = (table * far).sum(dim=(1, 2)) * table.sum(dim=(1, 2))
    return 1 - ratio(seen, (chance * far).sum(dim=(1, 2)))


def steps_off(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the mean absolute distance in classes between prediction and truth ``[R]``.

    Args:
        prediction: Probabilities ``[B, K]``.
        truth: Class indices ``[B]``.
        weight: Weights of the rows in each resample ``[R, B]``.
    """
    return mean((prediction.argmax(dim=1) - truth).abs(), weight)

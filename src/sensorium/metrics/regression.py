"""Metrics of regression: mean absolute error, root mean squared error, R², Pearson correlation.

Each takes numbers ``prediction`` and ``truth`` ``[B]`` and ``weight`` ``[R, B]`` (see ``metrics/weighting.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.metrics.weighting import mean, ratio


def mae(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the mean absolute error.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    return mean((prediction - truth).abs(), weight)


def rmse(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the root mean squared error.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    return mean((prediction - truth).double().square(), weight).sqrt()


def _spread(value: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of products of deviations from the mean; values near rounding error become 0."""
    total = weight.sum(dim=1).clamp_min(1e-300)
    value, other = value - value.mean(), other - other.mean()
    product = weight @ (value * other)
    result = product - (weight @ value) * (weight @ other) / total
    noise = weight @ (value * other).abs() * 1e-12
    return torch.where(result.abs() > noise, result, 0.0)


def r2(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the coefficient of determination: 1 is perfect, 0 no better than the mean of these rows.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    prediction, truth = prediction.double(), truth.double()
    return 1 - ratio(weight @ (prediction - truth).square(), _spread(truth, truth, weight))


def pearson(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the Pearson correlation, -1 to 1.

    ``prediction``, ``truth`` and ``weight`` are described in the module docstring.
    """
    x, y = prediction.double(), truth.double()
    below = (_spread(x, x, weight) * _spread(y, y, weight)).sqrt()
    return ratio(_spread(x, y, weight), below).clamp(-1, 1)

"""A linear forecast of a normalised window: ridge regression on its steps, and on what is known in advance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRENGTHS = (1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties that are tried, for each row and series that is learnt from."""
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares that a linear forecast may have beside a network's."""


class LinearForecast(nn.Module):
    """Weights of each step of the past, the same for all series, and of what is known of each step ahead.

    Source: Zeng et al. 2023 (linear forecasts beside networks), https://arxiv.org/abs/2205.13504.

    Args:
        past: Steps of the past.
        horizon: Steps ahead.
        series: Series that are forecast.
        known: Channels that are known in advance.
    """

    def __init__(self, past: int, horizon: int, series: int, known: int) -> None:
        super().__init__()
        self.weight: Tensor
        self.effect: Tensor
        self.share: Tensor
        self.register_buffer("weight", torch.zeros(past, horizon))
        self.register_buffer("effect", torch.zeros(known, series))
        self.register_buffer("share", torch.zeros(()))

    def forward(self, own: Tensor, known: Tensor | None) -> Tensor:
        """Return the forecast ``[B, H, C]`` in the units of the normalised window.

        Args:
            own: The series that are forecast ``[B, C, past]``, zero where there is no step.
            known: What is known in advance ``[B, K, H]``; None: nothing is.
        """
        ahead = torch.einsum("bcp,ph->bhc", own, self.weight)
        return ahead if known is None else ahead + torch.einsum("bkh,kc->bhc", known, self.effect)

    def fit(self, own: Tensor, known: Tensor | None, future: Tensor, strength: float) -> None:
        """Solve for the weights.

        Args:
            own: As in ``forward``.
            known: As in ``forward``.
            future: What followed ``[B, H, C]``, in the units of the window; NaN where unknown.
            strength: The ridge penalty for each row and series.
        """
        finite = future.isfinite()
        wanted = torch.where(finite, future, 0.0).double()
        x = own.double().flatten(0, 1)
        self.weight.copy_(_ridge(x, wanted.transpose(1, 2).flatten(0, 1), strength * len(x)))
        if known is None or not self.effect.numel():
            return
        rest = torch.where(finite, wanted - torch.einsum("bcp,ph->bhc", own, self.weight), 0.0)
        z = known.double().transpose(1, 2).flatten(0, 1)
        self.effect.copy_(_ridge(z, rest.flatten(0, 1), strength * len(z)))


def _ridge(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Weights ``[P, H]`` of ``x`` ``[n, P]`` for ``y`` ``[n, H]``."""
    square = x.T @ x
    ridge = max(penalty, 1e-6) * torch.eye(len(square), dtype=x.dtype, device=x.device)
    weights: Tensor = torch.linalg.solve(square + ridge, x.T @ y)
    return weights


def scaled_error(forecast: Tensor, future: Tensor, scale: Tensor) -> float:
    """Return the mean of the absolute error of ``forecast`` ``[B, H, C]`` relative to ``scale`` ``[B, 1, C]`` where the
    ``future`` is known."""
    error = ((forecast - future).abs() / scale)[future.isfinite()]
    return float(error.mean()) if len(error) else float("inf")

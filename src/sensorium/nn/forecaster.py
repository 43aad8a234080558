"""Quantiles of the steps after a window, from the window's shape and a context vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""The probabilities of the quantiles; the middle one is the median."""
MEDIAN = LEVELS.index(0.5)


class CausalBlock(nn.Module):
    """A dilated causal convolution with a shortcut.

    Args:
        dim_in: Channels in.
        dim: Channels out.
        dilation: Steps between the three readings that are combined.
        dropout: Dropout rate.
    """

    def __init__(self, dim_in: int, dim: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.reach = 2 * dilation
        self.conv = nn.Conv1d(dim_in, dim, 3, dilation=dilation)
        self.norm = nn.GroupNorm(1, dim)
        self.mix = nn.Conv1d(dim, dim, 1)
        self.shortcut = nn.Conv1d(dim_in, dim, 1) if dim_in != dim else nn.Identity()
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[B, C, T]``; the result is ``[B, dim, T]``."""
        y: Tensor = self.shortcut(x) + self.drop(self.mix(F.gelu(self.norm(self.conv(F.pad(x, (self.reach, 0)))))))
        return y


class Forecaster(nn.Module):
    """A temporal convolutional network over a normalised window that gives quantiles which do not cross.

    Args:
        channels: Channels of the window.
        horizon: Steps ahead.
        series: Series that are forecast.
        context: Width of the context vector.
        width: Channels of the convolutions.
        depth: Number of blocks; the dilation doubles with each.
        dropout: Dropout rate.
        known: Channels that are known in advance, for each step ahead.
    """

    def __init__(
        self,
        channels: int,
        horizon: int,
        series: int,
        context: int,
        *,
        width: int,
        depth: int,
        dropout: float,
        known: int = 0,
    ) -> None:
        super().__init__()
        self.channels, self.horizon, self.series, self.known = channels, horizon, series, known
        widths = [channels + 1, *[width] * depth]
        self.blocks = nn.ModuleList(CausalBlock(widths[i], width, 2**i, dropout) for i in range(depth))
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width + context, horizon * series * len(LEVELS)))
        if known:
            # What is known of a step is weighed by the state of the window and by the step itself.
            self.ahead = nn.Linear(known, width)
            self.state = nn.Linear(2 * width + context, width)
            self.place = nn.Parameter(torch.zeros(horizon, width))
            self.effect = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(width, series * len(LEVELS)))

    def forward(self, window: Tensor, real: Tensor, context: Tensor, known: Tensor | None = None) -> Tensor:
        """Return quantiles ``[B, horizon, series, Q]`` in units of the window's own scale.

        Args:
            window: The window ``[B, C, T]``, its last step last.
            real: Which steps are real ``[B, T]``.
            context: The context vector ``[B, D]``.
            known: What is known in advance ``[B, known, horizon]``, zero where it is not; None: nothing is.
        """
        keep = real.unsqueeze(1).to(window)
        x = torch.cat([window, keep], dim=1)
        for block in self.blocks:
            x = block(x)
        mean = (x * keep).sum(dim=2) / keep.sum(dim=2).clamp(min=1)
        state = torch.cat([x[..., -1], mean, context], dim=1)
        raw = self.out(state).reshape(-1, self.horizon, self.series, len(LEVELS))
        if self.known:
            ahead = state.new_zeros(len(state), self.known, self.horizon) if known is None else known
            hidden = self.ahead(ahead.transpose(1, 2)) + self.state(state)[:, None] + self.place
            raw = raw + self.effect(hidden).reshape_as(raw)
        median = raw[..., MEDIAN : MEDIAN + 1]
        above = F.softplus(raw[..., MEDIAN + 1 :]).cumsum(dim=-1)
        below = F.softplus(raw[..., :MEDIAN].flip(-1)).cumsum(dim=-1).flip(-1)
        return torch.cat([median - below, median, median + above], dim=-1)


def uncrossed(quantiles: Tensor) -> Tensor:
    """Return ``quantiles`` ``[..., Q]`` in ascending order, with the median as it is."""
    above = quantiles[..., MEDIAN:].cummax(dim=-1).values
    below = quantiles[..., : MEDIAN + 1].flip(-1).cummin(dim=-1).values.flip(-1)
    return torch.cat([below[..., :-1], above], dim=-1)


def pinball(quantiles: Tensor, truth: Tensor) -> Tensor:
    """Return the pinball loss ``[..., Q]`` of ``quantiles`` ``[..., Q]`` for ``truth`` ``[...]``.

    Source: Koenker and Bassett 1978, https://doi.org/10.2307/1913643.
    """
    level = torch.tensor(LEVELS, device=quantiles.device, dtype=quantiles.dtype)
    wrong = truth.unsqueeze(-1) - quantiles
    return torch.maximum(level * wrong, (level - 1) * wrong)

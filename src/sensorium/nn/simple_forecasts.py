"""Simple forecasts mixed with a network's, linear and analogue, each with a weight chosen on held-out rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sensorium.nn import analog_forecast, linear_forecast
from sensorium.nn.analog_forecast import WIDTHS, AnalogForecast
from sensorium.nn.linear_forecast import STRENGTHS, LinearForecast, scaled_error

MOST = 0.8
"""Maximum of their total weight."""


class PastWindow(NamedTuple):
    """Normalised windows and what is known in advance of the steps that follow.

    Args:
        own: The series that are forecast ``[B, C, past]``, zero where there is no step.
        real: Which steps are real ``[B, past]``.
        known: What is known in advance ``[B, K, H]``; None: nothing is.
    """

    own: Tensor
    real: Tensor
    known: Tensor | None

    def take(self, keep: Tensor) -> PastWindow:
        """Return the rows of ``keep`` ``[B]``."""
        return PastWindow(self.own[keep], self.real[keep], None if self.known is None else self.known[keep])


class SimpleForecasts(nn.Module):
    """A ridge regression and a forecast by analogy with the window's own past, mixed with a network's median.

    Args:
        past: Steps of the past.
        horizon: Steps ahead.
        series: Series that are forecast.
        known: Channels that are known in advance.
        linear: Whether to include the linear forecast.
        analog: Whether to include the analogue forecast.
    """

    def __init__(self, past: int, horizon: int, series: int, known: int, *, linear: bool, analog: bool) -> None:
        super().__init__()
        self.linear = LinearForecast(past, horizon, series, known) if linear else None
        self.analog = AnalogForecast(past, horizon) if analog else None

    def each(self, window: PastWindow) -> tuple[Tensor | None, Tensor | None]:
        """Return the linear and the analogue forecast ``[B, H, C]`` of ``window``; None where it is not used."""
        linear = None if self.linear is None else self.linear(window.own, window.known)
        return linear, None if self.analog is None else self.analog(window.own, window.real)[0]

    def forward(self, median: Tensor, window: PastWindow) -> Tensor:
        """Return the correction of the network's ``median`` ``[B, H, C]`` for ``window``, in the window's units."""
        move = torch.zeros_like(median)
        if self.linear is not None:
            move = move + self.linear.share * (self.linear(window.own, window.known) - median)
        if self.analog is not None:
            forecast, usable = self.analog(window.own, window.real)
            move = move + self.analog.share * (forecast - median) * usable[:, None, None]
        return move

    def clear(self) -> None:
        """Set their weights to zero."""
        for part in (self.linear, self.analog):
            if part is not None:
                part.share.zero_()

    def fit(self, training: PastWindow, future: Tensor, held_out: PastWindow, truth: Tensor, scale: Tensor) -> None:
        """Fit the linear forecast to the ``training`` windows and their ``future`` ``[B, H, C]``, its penalty to the
        held-out ones.

        Args:
            training: Windows to learn from.
            future: The steps that followed, in their units; NaN where unknown.
            held_out: Held-out windows.
            truth: What followed these.
            scale: What errors are divided by ``[B, 1, C]``.
        """
        if self.linear is None:
            return
        errors = {}
        for strength in STRENGTHS:
            self.linear.fit(training.own, training.known, future, strength)
            errors[strength] = scaled_error(self.linear(held_out.own, held_out.known), truth, scale)
        self.linear.fit(training.own, training.known, future, min(errors, key=lambda strength: errors[strength]))

    def share_out(self, network: Tensor, held_out: PastWindow, truth: Tensor, scale: Tensor) -> None:
        """Choose the weights that are best on held-out windows, in total at most ``MOST``.

        Args:
            network: The network's median ``[B, H, C]`` for the held-out windows, in their units.
            held_out: Held-out windows.
            truth: What followed these.
            scale: What errors are divided by ``[B, 1, C]``.
        """
        linear = None if self.linear is None else self.linear(held_out.own, held_out.known)
        analogs = {(0, WIDTHS[0]): (network, truth.new_zeros(len(truth), dtype=torch.bool))}
        if self.analog is not None and self.analog.lengths:
            analogs = self.analog.candidates(held_out.own, held_out.real)
        best = (float("inf"), 0.0, 0.0, next(iter(analogs)))
        for setting, (forecast, usable) in analogs.items():
            move = (forecast - network) * usable[:, None, None]
            for analog_share in analog_forecast.SHARES if bool(usable.any()) else (0.0,):
                for linear_share in linear_forecast.SHARES if linear is not None else (0.0,):
                    if linear_share + analog_share > MOST + 1e-9:
                        continue
                    mixed = network + analog_share * move
                    mixed = mixed if linear is None else mixed + linear_share * (linear - network)
                    best = min(best, (scaled_error(mixed, truth, scale), linear_share, analog_share, setting))
        _, linear_share, analog_share, (length, width) = best
        if self.linear is not None:
            self.linear.share.fill_(linear_share)
        if self.analog is not None and length:
            self.analog.share.fill_(analog_share)
            self.analog.length.fill_(length)
            self.analog.width.fill_(width)

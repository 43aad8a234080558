"""Forecasts by analogy, and the shares of simple forecasts."""

from __future__ import annotations

import math

import pytest
import torch

from sensorium.nn.analog_forecast import AnalogForecast
from sensorium.nn.simple_forecasts import MOST, PastWindow, SimpleForecasts


def test_forecast_equals_the_weighted_mean_computed_directly() -> None:
    torch.manual_seed(0)
    own, real = torch.randn(2, 3, 14), torch.ones(2, 14, dtype=torch.bool)
    real[1, :4] = False
    own[1, :, :4] = 0.0
    length, horizon, width = 4, 3, 0.4
    forecast, usable = AnalogForecast(14, horizon).at(own, real, length, width)
    assert usable.all()
    for row in range(2):
        total, sums = 0.0, torch.zeros(horizon, 3)
        for start in range(14 - length - horizon + 1):
            if real[row, start]:
                far = (own[row, :, start : start + length] - own[row, :, -length:]).square().sum()
                weight = math.exp(-float(far) / (width * length * 3))
                total += weight
                sums += weight * own[row, :, start + length : start + length + horizon].T
        torch.testing.assert_close(forecast[row], sums / (total + 1e-3), atol=1e-5, rtol=1e-4)


def test_a_period_is_continued_and_a_short_past_is_not() -> None:
    steps = torch.arange(60) * (2 * math.pi / 12)
    own = torch.stack([steps.sin(), steps.cos()])[None]
    part = AnalogForecast(48, 12)
    forecast, usable = part.at(own[:, :, :48], torch.ones(1, 48, dtype=torch.bool), 4, 0.1)
    assert usable.all()
    assert float((forecast[0].T - own[0, :, 48:]).abs().max()) < 0.1
    short = torch.arange(48)[None] >= 40
    assert not part.at(own[:, :, :48] * short[:, None], short, 4, 0.1)[1].any()
    assert AnalogForecast(10, 12).lengths == ()


@pytest.mark.parametrize("period", [True, False])
def test_the_weight_is_the_best_on_held_out_windows(period: bool) -> None:
    torch.manual_seed(0)
    phase = torch.rand(40, 1, 1) * 2 * math.pi
    steps = torch.arange(60) * (2 * math.pi / 12)
    signal = (steps + phase).sin() if period else torch.randn(40, 1, 60)
    window = PastWindow(signal[..., :48], torch.ones(40, 48, dtype=torch.bool), None)
    truth, scale = signal[..., 48:].transpose(1, 2), torch.ones(40, 1, 1)
    parts = SimpleForecasts(48, 12, 1, 0, linear=False, analog=True)
    network = torch.zeros_like(truth)
    parts.share_out(network, window, truth, scale)
    assert parts.analog is not None
    share = float(parts.analog.share)
    assert share > 0.5 if period else share <= 0.3
    assert share <= MOST
    better = (network + parts(network, window) - truth).abs().mean()
    assert better <= (network - truth).abs().mean()
    parts.clear()
    assert not parts(network, window).any()

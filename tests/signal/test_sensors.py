"""Sensor mathematics against numpy and scipy: gaps, grids, windows, statistical features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.interpolate
import scipy.signal
import scipy.stats
import torch

from sensorium.core.errors import ConfigError, DataError
from sensorium.signal.gap_filling import fill
from sensorium.signal.series_statistics import LAGS, NAMES, QUANTILES, channel_summary, correlations, summary, summary_names
from sensorium.signal.time_alignment import align, on_grid
from sensorium.signal.windowing import windows

NAN = np.nan


# ── gaps ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gaps() -> None:
    steps = np.array([[NAN, 2, NAN, NAN, 8, NAN, 10, NAN]]).T
    expected: dict[Any, list[float]] = {
        ("line", None): [2, 2, 4, 6, 8, 9, 10, 10],
        ("hold", None): [2, 2, 2, 2, 8, 8, 10, 10],
        ("nearest", None): [2, 2, 2, 8, 8, 8, 10, 10],
        ("line", 1): [2, 2, NAN, NAN, 8, 9, 10, 10],
        ("line", 0): [NAN, 2, NAN, NAN, 8, NAN, 10, NAN],
    }
    for (how, limit), want in expected.items():
        filled, missing = fill(steps, how, limit)
        np.testing.assert_array_equal(filled[:, 0], want)
        np.testing.assert_array_equal(missing, ~np.isfinite(steps))
    assert np.isnan(fill(np.full((3, 1), NAN))[0]).all()
    assert np.isnan(fill(np.full((0, 2), NAN))[0]).shape == (0, 2)
    with pytest.raises(ConfigError):
        fill(steps, limit=-1)


@pytest.mark.parametrize("how", ["line", "nearest", "hold"])
def test_gaps_are_scipys_interpolation(how: Any) -> None:
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(200, 3))
    gone = rng.random((200, 3)) < 0.4
    gone[[0, -1]] = False
    filled, _ = fill(np.where(gone, np.inf, steps), how)
    kind = {"line": "linear", "nearest": "nearest", "hold": "previous"}[how]
    place = np.arange(200)
    for channel in range(3):
        real = ~gone[:, channel]
        theirs = scipy.interpolate.interp1d(place[real], steps[real, channel], kind=kind)(place)
        np.testing.assert_allclose(filled[:, channel], theirs, rtol=1e-9, atol=1e-12)


# ── grids ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["line", "nearest", "hold"])
def test_streams_meet_on_a_grid_as_scipy_puts_them(how: Any) -> None:
    rng = np.random.default_rng(1)
    fast, slow = np.sort(rng.uniform(0, 10, 400)), np.sort(rng.uniform(2, 12, 37))
    streams = {"fast": (fast, rng.normal(size=(400, 2))), "slow": (slow, rng.normal(size=37))}
    aligned = align(streams, 20.0, how)
    assert aligned.times[0] == fast[0]
    assert aligned.times[-1] == pytest.approx(slow[-1], abs=0.05)
    np.testing.assert_allclose(np.diff(aligned.times), 0.05)
    kind = {"line": "linear", "nearest": "nearest", "hold": "previous"}[how]
    for name, (times, values) in streams.items():
        inside = (aligned.times >= times[0]) & (aligned.times <= times[-1])
        assert (aligned.masks[name] == inside[:, None]).all()
        assert not aligned.values[name][~inside].any()
        theirs = scipy.interpolate.interp1d(times, values.reshape(len(times), -1), axis=0, kind=kind)
        np.testing.assert_allclose(aligned.values[name][inside], theirs(aligned.times[inside]), rtol=1e-9, atol=1e-9)
    both = align(streams, 20.0, how, span="overlap")
    assert all(mask.all() for mask in both.masks.values())
    assert both.times[0] == slow[0]


def test_disorder_gaps_and_reach() -> None:
    times, values = np.array([3.0, 0, 1, 1, NAN, 9]), np.array([[30, 0], [0, 1], [7, 1], [10, NAN], [5, 5], [90, 9]])
    out, known = on_grid(times, values, np.arange(0, 11.0), reach=2.0)
    np.testing.assert_allclose(out[:4, 0], [0, 10, 20, 30])  # of two at one moment the later counts
    assert known[:, 0].tolist() == [True] * 4 + [False] * 5 + [True, False]
    assert not out[~known].any()
    held, available = on_grid(times, values, np.arange(0, 11.0), "hold", reach=2.0)
    assert available[:, 0].tolist() == [True] * 6 + [False] * 3 + [True, False]
    assert held[5, 0] == 30
    nothing, unknown = on_grid([1.0, 2.0], [[NAN], [NAN]], np.arange(3.0))  # type: ignore[arg-type]
    assert not unknown.any()
    assert not nothing.any()
    # 0.1 + 0.1 + … is not quite 0.3: a moment that is meant is hit.
    clock = np.cumsum(np.full(1000, 0.1))
    assert on_grid(clock, np.arange(1000.0), np.arange(1, 1001) * 0.1, "hold")[0][:, 0].tolist() == list(range(1000))
    for bad in (([1.0], [1.0, 2.0]), ([NAN], [1.0]), ([], [])):
        with pytest.raises(DataError):
            on_grid(np.array(bad[0]), np.array(bad[1]), np.arange(3.0))
    with pytest.raises(DataError, match="overlap"):
        align({"a": (np.array([0.0, 1]), np.zeros(2)), "b": (np.array([5.0, 6]), np.zeros(2))}, 1.0, span="overlap")
    with pytest.raises(DataError):
        align({"a": (np.array([0.0, 1]), np.zeros(2))}, 0.0)


# ── windows ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize(("count", "length", "step"), [(20, 6, 3), (20, 5, 5), (21, 6, 4), (4, 6, 3), (0, 3, 3), (6, 2, 3)])
def test_windows(count: int, length: int, step: int, partial: bool) -> None:
    steps = np.arange(2 * count).reshape(count, 2) + 1.0
    labels = np.array(["walk" if i < count // 2 else "run" for i in range(count)])
    cut = windows(steps, length, step, times=np.arange(count) * 0.1, labels=labels, partial=partial)
    starts = [s for s in range(0, count, step) if s + length <= count]
    if partial and count:
        starts = [s for s in range(0, count, step) if s == 0 or s - step + length < count]
    assert cut.start.tolist() == starts
    assert cut.data.shape == (len(starts), length, 2)
    for i, start in enumerate(starts):
        own = steps[start : start + length]
        np.testing.assert_array_equal(cut.data[i, : len(own)], own)
        assert not cut.data[i, len(own) :].any()
        assert cut.mask[i].tolist() == [True] * len(own) + [False] * (length - len(own))
        share = np.mean(labels[start : start + length] == "run")
        assert cut.labels is not None
        assert cut.purity is not None
        assert cut.times is not None
        assert cut.labels[i] == ("run" if share >= 0.5 else "walk")
        assert cut.purity[i] == pytest.approx(max(share, 1 - share))
        assert cut.times[i] == pytest.approx(start * 0.1)


def test_bad_windows() -> None:
    with pytest.raises(ConfigError):
        windows(np.zeros(5), 0, 1)
    with pytest.raises(DataError):
        windows(np.zeros(5), 2, 1, labels=np.zeros(4))


# ── features ───────────────────────────────────────────────────────────────────────────────────────────────────────


def expected_features(x: np.ndarray) -> list[float]:
    gap = x - x.mean()
    _, power = scipy.signal.welch(gap, window="hann", nperseg=64, noverlap=32, detrend=False, scaling="density")
    power = power / 64  # a density a step, summed over steps of 1 / 64
    share = power / power.sum()
    lagged = [float(gap[lag:] @ gap[:-lag] / (gap @ gap)) for lag in LAGS]
    return [
        *(x.mean(), x.std(), scipy.stats.skew(x), scipy.stats.kurtosis(x)),
        *np.quantile(x, QUANTILES),
        *(np.mean((gap[1:] >= 0) != (gap[:-1] >= 0)), np.abs(np.diff(x)).mean()),
        *(power.sum(), scipy.stats.entropy(power) / np.log(33), float(share @ np.linspace(0, 1, 33))),
        *lagged,
    ]


def test_features_are_numpys_and_scipys() -> None:
    lengths = (160, 96, 64)
    data = torch.randn(3, 3, 160, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(dim=2)
    mask = torch.arange(160) < torch.tensor(lengths)[:, None]
    result = summary(data, mask)
    names = summary_names(["x", "y", "z"])
    assert result.shape == (3, len(names)) == (3, 3 * len(NAMES) + 3)
    for row, length in enumerate(lengths):
        real = data[row, :, :length].numpy()
        for channel in range(3):
            ours = result[row, channel * len(NAMES) : (channel + 1) * len(NAMES)]
            np.testing.assert_allclose(ours, expected_features(real[channel]), rtol=1e-7, atol=1e-9)
        theirs = np.corrcoef(real)[np.triu_indices(3, 1)]
        np.testing.assert_allclose(result[row, -3:], theirs, rtol=1e-9)
    assert names[len(NAMES)] == "mean of y"
    assert names[-1] == "correlation of y and z"


@pytest.mark.parametrize("length", [0, 1, 2, 30, 63])
def test_short_flat_and_padded_series_are_finite(length: int) -> None:
    data = torch.randn(2, 2, 80, generator=torch.Generator().manual_seed(1))
    data[1] = 1e4  # constant
    data[..., length:] = 1e9  # what is masked must not be seen
    mask = (torch.arange(80) < length).expand(2, 80)
    result = summary(data, mask)
    assert result.isfinite().all()
    assert not result[1, 1:4].any()
    if length:
        torch.testing.assert_close(result, summary(data[..., :length]), rtol=1e-4, atol=1e-4)
    else:
        assert not result.any()


def test_a_tone_has_its_frequency_and_no_entropy() -> None:
    time = torch.arange(640, dtype=torch.float64)
    tone = torch.sin(2 * torch.pi * time / 8)
    hiss = torch.randn(640, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = {name: i for i, name in enumerate(NAMES)}
    computed = channel_summary(torch.stack([tone, hiss]))
    assert float(computed[0, at["spectral centroid"]]) == pytest.approx(0.25, abs=0.01)
    assert float(computed[0, at["spectral energy"]]) == pytest.approx(0.5, rel=0.01)
    assert float(computed[0, at["autocorrelation 8"]]) == pytest.approx(1, abs=0.02)
    assert float(computed[0, at["autocorrelation 4"]]) == pytest.approx(-1, abs=0.02)
    assert float(computed[0, at["zero crossings"]]) == pytest.approx(0.25, abs=0.01)
    assert computed[0, at["spectral entropy"]] < 0.4 < 0.9 < computed[1, at["spectral entropy"]]


def test_features_have_gradients() -> None:
    data = torch.randn(2, 2, 70, dtype=torch.float64)
    data[1, 1] = 3.0
    data.requires_grad_()
    summary(data, torch.arange(70) < torch.tensor([[70], [50]])).sum().backward()
    assert data.grad is not None
    assert data.grad.isfinite().all()
    assert not data.grad[1, :, 50:].any()
    assert correlations(data.detach(), None).shape == (2, 1)

"""Convolutions and shares of steps against the plain formula, and what must not count."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Grid
from sensorium.core.modality import Array
from sensorium.features.rocket import Rocket, convolved

KERNELS = np.array([[2.0 if i in high else -1.0 for i in range(9)] for high in combinations(range(9), 3)])


def rows(count: int, channels: int, steps: int, seed: int = 0, least: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(least, steps + 1, (count,), generator=draw)
    lengths[0], lengths[1] = steps, least
    return torch.randn(count, channels, steps, generator=draw), torch.arange(steps) < lengths[:, None]


def field(data: Tensor, mask: Tensor | None = None) -> Field:
    return Field(data, torch.ones(len(data), dtype=torch.bool), mask)


def fitted(layout: Grid, data: Tensor, mask: Tensor | None = None, count: int = 504) -> Rocket:
    features = Rocket(layout, count=count)
    half = len(data) // 2
    features.fit(iter(field(data[s], None if mask is None else mask[s]) for s in (slice(0, half), slice(half, None))))
    return features


def plain(series: Array, kernel: Array, dilation: int) -> Array:
    """One convolution, tap by tap, in double precision."""
    computed = np.zeros(len(series))
    for t in range(len(series)):
        for tap in range(9):
            at = t + (tap - 4) * dilation
            if 0 <= at < len(series):
                computed[t] += kernel[tap] * series[at]
    return computed


def test_kernels_are_those_of_the_paper() -> None:
    impulse = torch.zeros(1, 1, 17)
    impulse[..., 8] = 1.0
    computed = convolved(impulse, 1, torch.ones(84, 1))[0, :, 4:13].flip(1).numpy()
    np.testing.assert_array_equal(computed, KERNELS)
    assert not KERNELS.sum(axis=1).any(), "a constant added to a series changes nothing"


@pytest.mark.parametrize("dilation", [1, 3, 7])
def test_convolutions_are_those_of_the_formula(dilation: int) -> None:
    draw = np.random.default_rng(dilation)
    series, chosen = draw.normal(size=(3, 30)), draw.random((84, 3)) < 0.5
    computed = convolved(torch.from_numpy(series)[None], dilation, torch.from_numpy(chosen))[0]
    expected = [plain(series[some].sum(axis=0), kernel, dilation) for some, kernel in zip(chosen, KERNELS, strict=True)]
    np.testing.assert_allclose(computed, expected, atol=1e-12)


@pytest.mark.parametrize(("channels", "steps", "least"), [(1, 60, 40), (3, 60, 1), (2, 6, 1)])
def test_features_are_shares_of_real_steps_above_a_level(channels: int, steps: int, least: int) -> None:
    data, mask = rows(6, channels, steps, least=least)
    features = fitted(Grid(channels, (steps,)), data, mask)
    computed = features.measured(data.masked_fill(~mask[:, None], 0.0), mask).numpy()
    biases, chosen = features.biases.double().numpy(), features.chosen.numpy()
    for b in range(6):
        length = int(mask[b].sum())
        series = data[b, :, :length].double().numpy()
        column, level = 0, 0
        for i, (dilation, levels) in enumerate(features.dilations):
            for j in range(level, level + levels):
                for k, kernel in enumerate(KERNELS):
                    values = plain(series[chosen[i, k]].sum(axis=0), kernel, dilation)
                    if (i + k) % 2 and length > 8 * dilation:
                        values = values[4 * dilation : length - 4 * dilation]
                    assert computed[b, column] == pytest.approx((values > biases[k, j]).mean(), abs=1e-6)
                    column += 1
            level += levels
        assert column == computed.shape[1] == 504


def test_levels_are_quantiles_of_what_a_training_row_gives() -> None:
    data = rows(2, 1, 50, least=50)[0][:1].repeat(2, 1, 1)
    features = fitted(Grid(1, (50,)), data)
    drawn, level = 0, 0
    for i, (dilation, levels) in enumerate(features.dilations):
        for k, kernel in enumerate(KERNELS):
            values = plain(data[0, 0].double().numpy(), kernel, dilation)
            values = values[4 * dilation : -4 * dilation] if (i + k) % 2 else values
            at = np.array([((drawn + 1 + n) * (np.sqrt(5) + 1) / 2) % 1 for n in range(levels)])
            expected = np.quantile(values, at)
            np.testing.assert_allclose(features.biases[k, level : level + levels], expected, atol=1e-4, rtol=1e-4)
            drawn += levels
        level += levels
    assert drawn == 504


@pytest.mark.parametrize(("steps", "count"), [(2, 84), (9, 2016), (100, 2016), (1000, 9999), (20000, 84)])
def test_there_are_as_many_features_as_asked_for(steps: int, count: int) -> None:
    layout = Grid(2, (steps,))
    data, mask = rows(3, 2, steps)
    features = fitted(layout, data, mask, count)
    computed = features(field(data, mask))
    assert computed.shape == (3, count // 84 * 84)
    assert computed.isfinite().all()
    assert features.compact(computed, field(data, mask)).shape[1] <= 64
    assert max(dilation for dilation, _ in features.dilations) <= max((min(steps, 4096) - 1) // 8, 1)


@pytest.mark.parametrize("steps", [40, 9000])
def test_padding_and_what_stands_there_change_nothing(steps: int) -> None:
    data, mask = rows(6, 3, steps)
    features = fitted(Grid(3, (steps,)), data, mask)
    before = features(field(data, mask))
    longer = torch.full((6, 3, steps + 7), float("nan"))
    longer[..., :steps] = data.masked_fill(~mask[:, None], float("inf"))
    real = torch.zeros(6, steps + 7, dtype=torch.bool)
    real[:, :steps] = mask
    torch.testing.assert_close(features(field(longer, real)), before, atol=1e-4, rtol=1e-4)
    for i in range(6):
        alone = features(field(data[i : i + 1, :, : int(mask[i].sum())]))
        torch.testing.assert_close(alone[0], before[i], atol=1e-4, rtol=1e-4)


def test_fitting_draws_no_chance_of_others_and_repeats_itself() -> None:
    data, mask = rows(20, 12, 40)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    features = fitted(Grid(12, (40,)), data, mask)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    again = fitted(Grid(12, (40,)), data, mask)
    for name, values in features.state_dict().items():
        assert torch.equal(values, again.state_dict()[name]), name


def test_a_model_that_is_read_back_gives_the_same() -> None:
    data, mask = rows(8, 3, 40)
    features, other = fitted(Grid(3, (40,)), data, mask), Rocket(Grid(3, (40,)), count=504)
    other.load_state_dict(features.state_dict())
    computed = features(field(data, mask))
    assert torch.equal(other(field(data, mask)), computed)
    assert torch.equal(other.compact(computed, field(data)), features.compact(computed, field(data)))


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("biases", torch.zeros(84, 3), "biases is of shape"),
        ("chosen", torch.zeros(1, 84, 3, dtype=torch.bool), "chosen is of shape"),
        ("mean", torch.zeros(1), "do not agree"),
        ("directions", torch.zeros(7, 2), "do not agree"),
    ],
)
def test_a_damaged_state_is_refused(name: str, values: Tensor, problem: str) -> None:
    data, mask = rows(8, 3, 40)
    state = fitted(Grid(3, (40,)), data, mask).state_dict()
    with pytest.raises(RuntimeError, match=problem):
        Rocket(Grid(3, (40,)), count=504).load_state_dict({**state, name: values})


def test_each_kernel_adds_up_few_channels() -> None:
    data, _ = rows(4, 30, 60, least=60)
    chosen = fitted(Grid(30, (60,)), data).chosen.sum(dim=2)
    assert chosen.min() == 1
    assert 5 <= chosen.max() <= 9


def test_a_series_that_stands_still_exceeds_nothing() -> None:
    data = torch.full((4, 1, 40), 3.0)
    features = fitted(Grid(1, (40,)), data)
    inner = features.measured(data, None).reshape(4, -1, 84)
    assert not inner[:, 0, 1::2].any(), "kernels that lie within the series give zero everywhere"


def test_a_pattern_is_found_wherever_it_stands() -> None:
    from sklearn.linear_model import RidgeClassifier

    draw = torch.Generator().manual_seed(0)
    data = torch.randn(120, 1, 80, generator=draw) * 0.5
    pattern = torch.tensor([0.0, 2.0, 0.0, -2.0, 0.0, 2.0, 0.0, -2.0])
    labels = torch.arange(120) % 2
    for row, label in zip(data, labels, strict=True):
        start = int(torch.randint(72, (1,), generator=draw))
        row[0, start : start + 8] += pattern if label else pattern.repeat_interleave(2)[:8]
    features = fitted(Grid(1, (80,)), data[:80], count=2016)(field(data)).numpy()
    head = RidgeClassifier(100.0).fit(features[:80], labels[:80])
    raw = RidgeClassifier(100.0).fit(data[:80, 0], labels[:80])
    score = head.score(features[80:], labels[80:])
    assert score >= 0.85
    assert score > raw.score(data[80:, 0], labels[80:]) + 0.2


def test_no_rows_leave_something_that_answers() -> None:
    features = Rocket(Grid(2, (30,)))
    features.fit([])
    data, mask = rows(4, 2, 30)
    computed = features(field(data, mask))
    assert computed.isfinite().all()
    assert features.compact(computed, field(data, mask)).isfinite().all()

"""What a picture is like: oriented gradients against the plain formula, and what may not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Grid
from sensorium.features.picture import Picture
from sensorium.signal.oriented_gradients import blocks, oriented


def pictures(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def field(data: Tensor, mask: Tensor | None = None) -> Field:
    return Field(data, torch.ones(len(data), dtype=torch.bool), mask)


def fitted(layout: Grid, data: Tensor, mask: Tensor | None = None) -> Picture:
    features = Picture(layout)
    features.fit([field(data, mask)])
    return features


def test_gradients_are_those_of_the_formula() -> None:
    picture = np.random.default_rng(0).normal(size=(2, 12, 8))
    cells, orientations = (3, 2), 9
    expected = np.zeros((orientations, *cells))
    wide = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="edge")
    for y in range(12):
        for x in range(8):
            gradients = [(c[y + 1, x + 2] - c[y + 1, x], c[y + 2, x + 1] - c[y, x + 1]) for c in wide]
            dx, dy = max(gradients, key=lambda g: float(np.hypot(*g)))
            angle = np.degrees(np.arctan2(dy, dx)) % 180
            for n in range(orientations):
                apart = abs(angle - n * 20)
                share = max(0.0, 1 - min(apart, 180 - apart) / 20)
                for i in range(cells[0]):
                    for j in range(cells[1]):
                        near = max(0.0, 1 - abs(y + 0.5 - (4 * i + 2)) / 4) * max(0.0, 1 - abs(x + 0.5 - (4 * j + 2)) / 4)
                        expected[n, i, j] += share * near * np.hypot(dx, dy) / 16
    np.testing.assert_allclose(oriented(torch.from_numpy(picture)[None], cells, orientations)[0], expected, rtol=1e-9)


def test_light_and_contrast_do_not_count() -> None:
    picture = pictures(2, 1, 16, 16)
    result, brighter = (blocks(oriented(p, (4, 4)), 1e-6) for p in (picture, 3 * picture + 5))
    torch.testing.assert_close(result, brighter, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.square().sum(dim=1), torch.ones(2, 3, 3))


def test_an_edge_is_found_where_it_is_and_in_its_direction() -> None:
    upright = torch.zeros(1, 1, 16, 16)
    upright[..., 8:] = 1.0
    result = oriented(upright, (4, 4))[0]
    assert result.sum(dim=(1, 2)).argmax() == 0
    assert result[0].sum(dim=0).argsort()[2:].sort().values.tolist() == [1, 2]
    lying = oriented(upright.transpose(2, 3), (4, 4))[0]
    assert set(lying.sum(dim=(1, 2)).topk(2).indices.tolist()) == {4, 5}, "90 degrees lie between 80 and 100"


@pytest.mark.parametrize(
    ("channels", "size"),
    [
        (1, (8, 8)),
        (1, (28, 28)),
        (3, (128, 96)),
        (20, (30, 30)),
        (1, (1, 40)),
        (2, (1, 1)),
        (3, (5, 9, 9)),
        (1, (20, 16, 16)),
    ],
)
def test_numbers_are_finite_and_few_enough(channels: int, size: tuple[int, ...]) -> None:
    data = pictures(12, channels, *size)
    features = fitted(Grid(channels, size), data)
    computed = features(field(data))
    few = features.compact(computed, field(data))
    assert computed.dtype == few.dtype == torch.float32
    assert computed.isfinite().all()
    assert few.isfinite().all()
    assert computed.shape[1] <= 6000
    assert few.shape[1] <= 256
    assert computed.std(dim=0).max() > 0.5


@pytest.mark.parametrize(("channels", "size"), [(1, (14, 9)), (2, (6, 8, 8))])
def test_padding_and_what_stands_there_change_nothing(channels: int, size: tuple[int, ...]) -> None:
    data, lengths = pictures(6, channels, *size), torch.tensor([size[0], 1, 2, 3, 4, 5])
    mask = torch.arange(size[0]) < lengths[:, None]
    features = fitted(Grid(channels, size), data, mask)
    before = features(field(data, mask))
    longer = torch.full((6, channels, size[0] + 9, *size[1:]), float("nan"))
    for i, length in enumerate(lengths.tolist()):
        longer[i, :, :length] = data[i, :, :length]
    real = torch.arange(size[0] + 9) < lengths[:, None]
    torch.testing.assert_close(features(field(longer, real)), before, atol=1e-4, rtol=1e-4)
    alone = features(field(data[3:4, :, :3], torch.ones(1, 3, dtype=torch.bool)))
    torch.testing.assert_close(alone, before[3:4], atol=1e-4, rtol=1e-4)


def test_directions_are_the_same_each_time_and_are_saved() -> None:
    data = pictures(40, 3, 20, 20)
    state = torch.random.get_rng_state()
    features, again = fitted(Grid(3, (20, 20)), data), fitted(Grid(3, (20, 20)), data)
    assert torch.equal(torch.random.get_rng_state(), state), "chance of the training run was drawn from"
    assert torch.equal(features.directions, again.directions)
    other = Picture(Grid(3, (20, 20)))
    other.load_state_dict(features.state_dict())
    computed = features(field(data))
    assert torch.equal(other.compact(other(field(data)), field(data)), features.compact(computed, field(data)))


def test_a_shift_in_brightness_shows_in_the_colours_alone() -> None:
    data = pictures(30, 1, 16, 16)
    data[:15] += 2.0
    features = fitted(Grid(1, (16, 16)), data)(field(data))
    apart = (features[:15].mean(dim=0) - features[15:].mean(dim=0)).abs()
    assert apart[-2] > 1.9, "the mean"
    assert apart[-1] < 1.0, "the deviation"


def test_no_rows_leave_something_that_answers() -> None:
    features = Picture(Grid(3, (40, 40)))
    features.fit([])
    computed = features(field(pictures(2, 3, 40, 40)))
    assert computed.isfinite().all()
    assert features.compact(computed, field(pictures(2, 3, 40, 40))).isfinite().all()


def test_digits_are_told_apart() -> None:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    pixels, labels = load_digits(return_X_y=True)
    data = torch.from_numpy((pixels - pixels.mean()) / pixels.std()).float().reshape(-1, 1, 8, 8)
    features = fitted(Grid(1, (8, 8)), data[:900])
    computed = features(field(data)).numpy()
    head = LogisticRegression(C=0.01, max_iter=1000).fit(computed[:900], labels[:900])
    plain = LogisticRegression(C=0.1, max_iter=1000).fit(data[:900].flatten(1).numpy(), labels[:900])
    score = head.score(computed[900:], labels[900:])
    assert score > 0.95
    assert score > plain.score(data[900:].flatten(1).numpy(), labels[900:])


def test_what_it_reads() -> None:
    assert Picture.reads(Grid(3, (20, 20)))
    assert Picture.reads(Grid(3, (4, 20, 20), timed=True))
    assert not Picture.reads(Grid(1, (20, 20), timed=True))
    assert not Picture.reads(Grid(3, (20,)))

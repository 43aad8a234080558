"""What decoders are to rebuild: summaries of streams against plain averaging, and the units of their errors."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sensorium.core.batch import Field
from sensorium.core.layout import Graph, Grid, Ids, Layout, Points, Row
from sensorium.nn.stream_aims import aims, sections, segment_means
from sensorium.nn.stream_decoder import StreamDecoder, readable
from sensorium.nn.token_targets import hidden_tokens, patches
from sensorium.nn.views import view
from sensorium.testing import samples


def test_segments_are_those_of_adaptive_pooling_for_every_length() -> None:
    data = torch.randn(5, 3, 23, dtype=torch.float64)
    lengths = torch.tensor([23, 1, 7, 16, 11])
    made = segment_means(data, lengths, 8)
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(made[row : row + 1], F.adaptive_avg_pool1d(data[row : row + 1, :, :n], 8))


def test_images_are_pooled() -> None:
    data = torch.randn(4, 1, 28, 28)
    made = aims(Grid(1, (28, 28)), Field(data, torch.tensor([True, True, False, True])))
    torch.testing.assert_close(made[[0, 1, 3]], F.adaptive_avg_pool2d(data, 16).flatten(1)[[0, 1, 3]])
    assert bool(made[2].isnan().all())


@pytest.mark.parametrize("layout", samples.LAYOUTS, ids=repr)
def test_summaries_have_the_size_of_their_sections_and_do_not_see_padding(layout: Layout) -> None:
    data, mask = samples.data(layout, 6), samples.masks(layout, 6)
    present = torch.ones(6, dtype=torch.bool)
    made = aims(layout, Field(data, present, mask))
    assert made.shape == (6, sum(sections(layout)))
    litter = data.clone()
    hidden = ~mask.reshape(6, -1) if not isinstance(layout, Grid) else ~mask
    if isinstance(layout, Grid):
        litter = torch.where(hidden.reshape(6, 1, -1, *[1] * (data.dim() - 3)), torch.full_like(data, 7.0), data)
    elif not isinstance(layout, Ids):
        litter[hidden] = 3.0
    torch.testing.assert_close(aims(layout, Field(litter, present, mask)), made, equal_nan=True)
    if not isinstance(layout, Row):
        assert bool(made.isfinite().all())


def test_cells_words_points_and_graphs_are_counted_by_hand() -> None:
    one = torch.ones(1, dtype=torch.bool)
    row = aims(Row((0, 3, 2)), Field(torch.tensor([[1.5, 2.0, 0.0]]), one))
    assert row[0, :3].tolist() == [1.5, 0.0, 1.0]
    assert bool(row[0, 3].isnan())  # the code of a value that nobody knows
    words = aims(Ids(6, 4), Field(torch.tensor([[3, 3, 5, 0]]), one))
    torch.testing.assert_close(words, torch.tensor([[0.0, 0, 0, math.log(3), 0, math.log(2)]]))
    points = torch.tensor([[[0.0, 1, 2], [4.0, 3, 2], [9.0, 9, 9]]])
    made = aims(Points(3, 3), Field(points, one, torch.tensor([[True, True, False]])))
    assert made[0].tolist() == [2, 2, 2, 2, 1, 0, 0, 1, 2, 4, 3, 2]
    graph = torch.tensor([[[1.0, 0, 2], [3.0, 1, 0]]])
    assert aims(Graph(1, 2, 2), Field(graph, one))[0].tolist() == [2, 1, 0.5, 0.5]


def test_always_answering_the_mean_has_an_error_of_one() -> None:
    torch.manual_seed(0)
    layouts = {"numbers": Row((0, 0, 4)), "series": Grid(2, (9,))}
    decoder = StreamDecoder(layouts, 8, 16)
    targets = [
        aims(layout, Field(samples.data(layout, 400), torch.arange(400) % 5 > i))
        for i, layout in enumerate(layouts.values())
    ]
    every = torch.cat(targets, dim=1)
    every[:, 0] *= 1000  # its unit is its own
    decoder.fit([every[:150], every[150:]])
    errors, known = decoder.errors(torch.zeros(400, decoder.size), every)
    mean = (errors * known).double().sum(dim=0) / known.sum(dim=0)
    torch.testing.assert_close(mean, torch.ones(2, dtype=torch.float64), rtol=0.05, atol=0)
    perfect = ((every - decoder.mean) / decoder.scale).nan_to_num(0.0)
    assert float(decoder.errors(perfect, every)[0].abs().max()) < 1e-6


def test_a_stream_is_rebuilt_from_the_others_or_from_itself_where_it_has_none() -> None:
    presence = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    others = readable(presence, "others")
    assert others[0].tolist() == [[False, True, False], [True, False, False], [True, True, False]]
    assert others[1, 0].tolist() == [True, False, False]
    assert not bool(others[2].any())
    assert readable(presence, "own")[0].tolist() == [[True, False, False], [False, True, False], [False] * 3]
    assert readable(presence, "all")[0].tolist() == [[True, True, False]] * 3


def test_the_divergence_is_that_of_two_normals() -> None:
    torch.manual_seed(0)
    decoder = StreamDecoder({"one": Row((0,)), "two": Row((0,))}, 4, 3, sampled=True)
    pooled, presence = torch.randn(5, 2, 4), torch.tensor([[True, True]] * 4 + [[True, False]])
    _, divergence = decoder(pooled, presence, "own")
    for i in range(5):
        each = []
        for s in range(2):
            if presence[i, s]:
                mean, log_variance = decoder.project[s](pooled[i, s]).detach().double().chunk(2)
                ours = torch.distributions.Normal(mean, (log_variance / 2).exp())
                each.append(float(torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).sum()))
        assert float(divergence[i].detach()) == pytest.approx(sum(each) / len(each), rel=1e-4)
    drawn = [decoder.train()(pooled, presence, "own")[0] for _ in range(2)]
    assert not torch.equal(*drawn)
    assert torch.equal(*[decoder.eval()(pooled, presence, "own")[0] for _ in range(2)])


def test_hidden_tokens_are_a_share_of_the_real_ones() -> None:
    torch.manual_seed(0)
    real = torch.arange(10) < torch.tensor([[10], [5], [2], [1], [0]])
    hide = hidden_tokens(real, 0.4)
    assert hide.sum(dim=1).tolist() == [4, 2, 1, 1, 0]
    assert not bool((hide & ~real).any())


@pytest.mark.parametrize(("size", "stride"), [((7,), (3,)), ((6, 5), (2, 3)), ((4, 4, 4), (2, 2, 2))])
def test_patches_hold_their_part_of_the_grid(size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    data = torch.randn(2, 3, *size)
    made = patches(data, stride)
    grid = [-(-n // p) for n, p in zip(size, stride, strict=True)]
    assert made.shape == (2, math.prod(grid), 3 * math.prod(stride))
    for i, place in enumerate(torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, len(grid)).tolist()):
        part = data[(slice(None), slice(None), *(slice(a * p, (a + 1) * p) for a, p in zip(place, stride, strict=True)))]
        extra = [n for p, n in zip(reversed(stride), reversed(part.shape[2:]), strict=True) for n in (0, p - n)]
        torch.testing.assert_close(made[:, i], F.pad(part, extra).flatten(1))


@pytest.mark.parametrize("layout", samples.LAYOUTS, ids=repr)
def test_views_keep_shape_and_a_part_and_differ(layout: Layout) -> None:
    torch.manual_seed(0)
    mask = samples.masks(layout, 8)
    field = Field(samples.data(layout, 8), torch.ones(8, dtype=torch.bool), mask)
    one, other = view(layout, field, 1.0), view(layout, field, 1.0)
    assert one.data.shape == field.data.shape
    assert one.data.dtype == field.data.dtype
    assert bool(one.data.isfinite().all())
    assert not torch.equal(one.data, other.data)
    if one.mask is not None:
        assert bool(one.mask.reshape(8, -1).any(dim=1).all())
    if not isinstance(layout, (Ids, Points)):
        torch.testing.assert_close(view(layout, field, 0.0).data, field.data)

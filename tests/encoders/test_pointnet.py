"""PointNet: the order of points does not matter, and the formula is that of the paper."""

from __future__ import annotations

import torch

from sensorium.core.layout import Grid, Points
from sensorium.encoders.pointnet import Pointnet
from sensorium.encoders.vector import Vector


def test_the_order_of_points_does_not_matter() -> None:
    torch.manual_seed(0)
    data, mask = torch.randn(3, 20, 4), torch.rand(3, 20) < 0.7
    for options in ({}, {"align": True, "tokens": "points", "norm": "layer"}):
        encoder = Pointnet(Points(4, 20), **options).eval()  # type: ignore[arg-type]
        order = torch.randperm(20)
        one, other = encoder(data, mask), encoder(data[:, order], mask[:, order])
        assert torch.allclose(one.pooled, other.pooled, atol=1e-6)
        if options:
            assert torch.allclose(one.tokens[:, order], other.tokens, atol=1e-6)


def test_repeating_points_changes_nothing() -> None:
    encoder = Pointnet(Points(3, 8)).eval()
    data = torch.randn(2, 8, 3)
    assert torch.allclose(encoder(data).pooled, encoder(data.repeat(1, 3, 1)).pooled, atol=1e-6)


def test_the_formula() -> None:
    encoder = Pointnet(Points(3, 8), depth=2, norm="layer").eval()
    data = torch.randn(2, 8, 3, dtype=torch.float64)
    encoder = encoder.double()
    x = data
    for layer, norm in zip(encoder.points.layers, encoder.points.norms, strict=True):
        x = x @ layer.weight[..., 0].T  # type: ignore[union-attr,operator,index]
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        x = (x * norm.weight + norm.bias).clamp(min=0)  # type: ignore[operator]
    assert torch.allclose(encoder(data).pooled, encoder.head(x.amax(1)), atol=1e-9)


def test_a_cloud_is_turned_by_the_matrix_only() -> None:
    encoder = Pointnet(Points(4, 8), align=True).eval()
    assert encoder.align is not None
    data, mask = torch.randn(2, 4, 8), torch.ones(2, 8).bool()
    assert torch.allclose(encoder.align(data, mask), data, atol=1e-6)  # at first the identity
    encoder.align.matrix.bias.data = torch.tensor([-1.0, 1, 0, -1, -1, 0, 0, 0, 0])  # a quarter turn
    turned = encoder.align(data, mask)
    assert torch.allclose(turned[:, :2], torch.stack([data[:, 1], -data[:, 0]], 1), atol=1e-6)
    assert torch.equal(turned[:, 2:], data[:, 2:])


def test_every_weight_over_a_vector_learns() -> None:
    encoder = Vector(Grid(6, (1,)), tokens=2, dim=8)
    out = encoder(torch.randn(4, 6, 1))
    assert out.tokens.shape == (4, 2, 8)
    out.pooled.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in encoder.parameters())

"""Networks from a code to the values of a cell and back to features, for pictures, series and plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from sensorium.nn.mlp import Mlp

COARSEST = 8
"""The longest side of the grid that a generator starts from and a discriminator ends with."""
SLOPE = 0.2
"""Slope of leaky ReLU below zero, as usual for discriminators."""


def grid_sizes(size: Sequence[int]) -> list[tuple[int, ...]]:
    """The sizes of a grid of ``size`` halved until no side is longer than ``COARSEST``, from coarse to fine."""
    sizes = [tuple(size)]
    while max(sizes[-1]) > COARSEST:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes[::-1]


def _conv(axes: int, channels_in: int, channels: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    kind = nn.Conv1d if axes == 1 else nn.Conv2d
    return kind(channels_in, channels, kernel, stride=stride, padding=kernel // 2)


class Generator(nn.Module):
    """Decode vectors to values of a fixed ``shape``: ``[channels, *size]`` by convolutions, ``[F]`` by a perceptron.

    A grid grows from at most 8 cells a side by nearest-neighbour upsampling and convolution. Each block is scaled and
    shifted by the vector (FiLM), so that a condition in it reaches every resolution.

    Source: conditioning by scale and shift, Perez et al. 2018, https://arxiv.org/abs/1709.07871.

    Args:
        dim: Width of the vectors.
        shape: Of the values.
        width: Channels at the finest resolution but one; coarser grids have twice as many, at most four times, the finest
            half as many.
    """

    def __init__(self, dim: int, shape: Sequence[int], width: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if len(self.shape) == 1:
            self.plain: nn.Module | None = Mlp(dim, 4 * width, self.shape[0], depth=2)
            return
        self.plain = None
        channels, *size = self.shape
        self.sizes = grid_sizes(size)
        steps = len(self.sizes) - 1
        widths = [width * min(4, 2 ** max(0, steps - 1 - i)) for i in range(steps + 1)]
        if steps:
            widths[-1] = max(8, width // 2)
        self.channels = widths[0]
        self.first = nn.Linear(dim, widths[0] * math.prod(self.sizes[0]))
        self.blocks = nn.ModuleList(_conv(len(size), a, b) for a, b in zip([widths[0], *widths], widths, strict=False))
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, b), b, affine=False) for b in widths)
        self.films = nn.ModuleList(nn.Linear(dim, 2 * b) for b in widths)
        self.last = _conv(len(size), widths[-1], channels)

    def forward(self, code: Tensor) -> Tensor:
        """Values ``[B, *shape]``, unbounded, for vectors ``code`` ``[B, dim]``."""
        if self.plain is not None:
            plain: Tensor = self.plain(code)
            return plain
        x: Tensor = self.first(code)
        x = x.reshape(len(code), self.channels, *self.sizes[0])
        for size, block, norm, film in zip(self.sizes, self.blocks, self.norms, self.films, strict=True):
            if x.shape[2:] != size:
                x = F.interpolate(x, size=size, mode="nearest")
            scale, shift = film(code)[(..., *[None] * len(size))].chunk(2, dim=1)
            x = F.gelu(norm(block(x)) * (1 + scale) + shift)
        out: Tensor = self.last(x)
        return out


class Trunk(nn.Module):
    """Features ``[B, dim]`` of values of a fixed ``shape``: strided convolutions, or a perceptron for plain numbers.

    Args:
        shape: ``[channels, *size]`` or ``[F]``.
        dim: Width of the features.
        width: Channels of the first layer.
        spectral: Whether the spectral norm of every layer is 1, as a discriminator needs (Miyato et al. 2018,
            https://arxiv.org/abs/1802.05957).
    """

    def __init__(self, shape: Sequence[int], dim: int, width: int, *, spectral: bool = False) -> None:
        super().__init__()
        self.shape = tuple(shape)
        layers: list[nn.Module] = []
        if len(self.shape) == 1:
            layers += [nn.Linear(self.shape[0], 4 * width), nn.LeakyReLU(SLOPE)]
            layers += [nn.Linear(4 * width, 4 * width), nn.LeakyReLU(SLOPE), nn.Linear(4 * width, dim)]
        else:
            channels, *size = self.shape
            sizes = grid_sizes(size)
            inside = channels
            for i in range(len(sizes) - 1):
                outside = width * min(4, 2**i)
                layers += [_conv(len(size), inside, outside, stride=2), nn.LeakyReLU(SLOPE)]
                inside = outside
            layers += [_conv(len(size), inside, 2 * inside if inside > channels else width), nn.LeakyReLU(SLOPE)]
            inside = 2 * inside if inside > channels else width
            layers += [nn.Flatten(), nn.Linear(inside * math.prod(sizes[0]), dim)]
        self.layers = nn.Sequential(*(normed(layer) if spectral else layer for layer in layers))

    def forward(self, values: Tensor) -> Tensor:
        """Features of ``values`` ``[B, *shape]``."""
        out: Tensor = self.layers(values)
        return out


def normed(layer: nn.Module) -> nn.Module:
    """``layer`` with spectral normalisation where it has a weight matrix."""
    return spectral_norm(layer) if isinstance(getattr(layer, "weight", None), Tensor) else layer


class ProjectionCritic(nn.Module):
    """A discriminator of values given a condition: a score of the values, and an inner product with the condition.

    Labels among the conditions have embeddings of their own. All layers have a spectral norm of 1. Source: projection
    discriminator, Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637, equation 5.

    Args:
        shapes: Of the values of each part, which are judged together.
        condition: Width of the condition; 0: none.
        dim: Width of the features.
        width: Channels of the first layer of each part.
        codes: Number of codes of each label.
    """

    def __init__(
        self, shapes: Sequence[Sequence[int]], condition: int, dim: int, width: int, codes: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.labels = nn.ModuleList(normed(nn.Embedding(count, dim)) for count in codes)
        self.trunks = nn.ModuleList(Trunk(shape, dim, width, spectral=True) for shape in shapes)
        self.score = normed(nn.Linear(dim, 1))
        self.project = normed(nn.Linear(condition, dim)) if condition else None

    def forward(self, parts: Sequence[Tensor], condition: Tensor | None = None, codes: Tensor | None = None) -> Tensor:
        """Scores ``[B]``, high for real rows.

        Args:
            parts: The values of each part ``[B, *shape]``.
            condition: ``[B, C]``.
            codes: Labels ``[B, K]``; 0 is unknown.
        """
        mean = torch.stack([trunk(part) for trunk, part in zip(self.trunks, parts, strict=True)]).mean(dim=0)
        features = F.leaky_relu(mean, SLOPE)
        score: Tensor = self.score(features)[:, 0]
        if self.project is not None and condition is not None:
            score = score + (self.project(condition) * features).sum(dim=1)
        for k, label in enumerate(self.labels if codes is not None else ()):
            assert codes is not None
            score = score + (label(codes[:, k]) * features).sum(dim=1) * (codes[:, k] > 0)
        return score


def hinge(real: Tensor, made: Tensor) -> Tensor:
    """The hinge loss ``[B]`` of a critic whose scores are ``real`` and ``made`` ``[B]``: real rows above 1, made ones below
    -1 (Lim and Ye 2017, https://arxiv.org/abs/1705.02894)."""
    return F.relu(1 - real) + F.relu(1 + made)

"""Checks of encoders."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder, TokenEncoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Graph, Grid, Layout, Points, Row
from sensorium.core.recipe import Spec
from sensorium.core.registry import build, find
from sensorium.testing import samples
from sensorium.testing.general import assert_same, check_description, check_gradients, check_module, perturbed

ROWS = 6


def check_encoder(kind: str) -> None:
    """Check the encoder ``kind``: zero where masked, unaffected by padding, rows independent, gradients reach all
    parameters, one step suffices."""
    check_description("encoders", kind)
    read = find("encoders", kind).reads
    fitting = [layout for layout in samples.LAYOUTS if isinstance(layout, read) and accepts(kind, layout)]
    assert fitting, f"encoders/{kind} accepts none of the layouts it says it reads"
    for layout in fitting:
        check_layout(kind, layout)


def accepts(kind: str, layout: Layout) -> bool:
    """Return whether the encoder ``kind`` can be built for ``layout``; it may only refuse with a ``ConfigError``."""
    try:
        build("encoders", kind, layout)
    except ConfigError:
        return False
    return True


def check_layout(kind: Spec, layout: Layout) -> None:
    """Run all checks on one ``layout``; ``kind`` is a name or a specification with options."""
    where = f"encoders/{kind} on {layout}"
    data, mask = samples.data(layout, ROWS), samples.masks(layout, ROWS)

    def make() -> Encoder:
        torch.manual_seed(0)
        encoder: Encoder = build("encoders", kind, layout)
        return encoder

    check_module(make, lambda part: part(data, mask))
    encoder = perturbed(make())
    for seed in (3, 4):  # statistics of batches, where there are any, leave their starting values
        encoder(samples.data(layout, ROWS, seed=seed), mask)
    encoder.eval()
    with torch.no_grad():
        unmasked, part = encoder(data), encoder(data, mask)
        for encoded in (unmasked, part):
            check_shape(encoded, ROWS, encoder.dim, where)
        assert_same(unmasked, encoder(data, torch.ones_like(mask)), f"{where}: a mask of ones is not the same as no mask")
        assert_same(part, encoder(corrupted(data, mask, layout), mask), f"{where}: what stands under the mask matters")
        if not isinstance(layout, Row):
            check_padding(encoder, layout, data, mask, where)
        for i in range(ROWS):
            alone = encoder(data[i : i + 1], mask[i : i + 1])
            assert_same(alone.pooled, part.pooled[i : i + 1], f"{where}: row {i} depends on its batch")
            assert_same(alone.tokens, part.tokens[i : i + 1], f"{where}: the tokens of row {i} depend on its batch")
        nothing = encoder(data, torch.zeros_like(mask))
        assert bool(nothing.pooled.isfinite().all()), f"{where}: a row without a real step gives NaN"
        if isinstance(encoder, TokenEncoder):
            tokens, real = encoder.embed(data, mask)
            assert_same(encoder.trunk(tokens, real), part.tokens, f"{where}: embed and trunk are not forward")
    check_short(make(), layout, where)
    check_pyramid(make, layout, where)
    if samples.length(layout) > 1:  # attention to a single token is 1 whatever the weights say
        encoder.train()
        check_gradients(encoder, encoder(data, mask))


def check_shape(encoded: Encoded, rows: int, dim: int, where: str) -> None:
    """Check an ``encoded`` structure of ``rows`` rows and width ``dim``: shapes, dtypes, zero where masked, every row
    present. ``where`` names the case in messages."""
    n = encoded.mask.shape[1]
    assert encoded.tokens.shape == (rows, n, dim), f"{where}: tokens are {tuple(encoded.tokens.shape)}"
    assert encoded.pooled.shape == (rows, dim), f"{where}: pooled is {tuple(encoded.pooled.shape)}"
    assert encoded.mask.shape == (rows, n), f"{where}: the mask is {tuple(encoded.mask.shape)}"
    assert encoded.mask.dtype == encoded.present.dtype == torch.bool, f"{where}: masks must be bool"
    assert encoded.present.shape == (rows,), f"{where}: present is {tuple(encoded.present.shape)}"
    assert bool(encoded.present.all()), f"{where}: every row an encoder sees is present"
    assert not encoded.grid or math.prod(encoded.grid) == n, f"{where}: a grid of {encoded.grid} has not {n} tokens"
    assert not bool(encoded.tokens[~encoded.mask].any()), f"{where}: tokens are not zero where masked"
    assert bool(encoded.tokens.isfinite().all() and encoded.pooled.isfinite().all()), f"{where}: not finite"


def corrupted(data: Tensor, mask: Tensor, layout: Layout) -> Tensor:
    """Return ``data`` of ``layout`` with other values wherever ``mask`` is False."""
    return torch.where(along(mask, layout), data, samples.data(layout, data.shape[0], data_steps(data, layout), seed=9))


def data_steps(data: Tensor, layout: Layout) -> int:
    """The number of steps of ``data``, along the axis that ``layout`` masks."""
    return data.shape[2] if isinstance(layout, Grid) else data.shape[1]


def along(mask: Tensor, layout: Layout) -> Tensor:
    """``mask`` ``[B, N]`` reshaped to broadcast over data of ``layout``."""
    if isinstance(layout, Grid):
        return mask.reshape(mask.shape[0], 1, mask.shape[1], *[1] * (len(layout.size) - 1))
    return mask.unsqueeze(-1) if isinstance(layout, (Points, Graph)) else mask


def check_padding(encoder: Encoder, layout: Layout, data: Tensor, mask: Tensor, where: str) -> None:
    """Check that neither the amount nor the contents of padding change what ``encoder`` makes of ``data`` and ``mask``
    of ``layout``. ``where`` names the case in messages."""
    part = encoder(data, mask)
    axis = 2 if isinstance(layout, Grid) else 1
    for more in (1, 2, 5):
        filler = samples.data(layout, data.shape[0], more, seed=7)
        longer = encoder(torch.cat([data, filler], dim=axis), torch.cat([mask, mask.new_zeros(mask.shape[0], more)], 1))
        assert_same(longer.pooled, part.pooled, f"{where}: {more} more steps of padding change the vector")
        assert_same(longer.mask.sum(1), part.mask.sum(1), f"{where}: padding of {more} steps makes tokens real")
        assert_same(longer.tokens[longer.mask], part.tokens[part.mask], f"{where}: padding changes the tokens")
    for i in range(data.shape[0]):
        steps = int(mask[i].sum())
        cut = encoder(data[i : i + 1].narrow(axis, 0, steps))
        assert_same(cut.pooled, part.pooled[i : i + 1], f"{where}: a row cut to its own length differs")


def check_short(encoder: Encoder, layout: Layout, where: str) -> None:
    """Check that ``encoder`` accepts one row of one step of ``layout``, also in training: the last batch may be that
    small. ``where`` names the case in messages."""
    data = samples.data(layout, 1, None if isinstance(layout, Row) else 1)
    for training in (True, False):
        encoder.train(training)
        check_shape(encoder(data), 1, encoder.dim, f"{where}, one row of one step")


def check_pyramid(make: Callable[[], Encoder], layout: Layout, where: str) -> None:
    """Check feature maps: shaped as ``levels`` states, returned only on request, without side effects, unaffected by
    padding. ``make`` builds the encoder for ``layout``. ``where`` names the case in messages."""
    encoder = perturbed(make()).eval()
    data, mask = samples.data(layout, ROWS), samples.masks(layout, ROWS)
    with torch.no_grad():
        plain = encoder(data, mask)
    assert plain.pyramid == (), f"{where}: a pyramid that nobody asked for"
    if not encoder.levels:
        return
    assert isinstance(layout, Grid), f"{where}: levels of what is no grid"
    for fine, coarse in pairwise(encoder.levels):
        assert all(a <= b for a, b in zip(fine.stride, coarse.stride, strict=True)), (
            f"{where}: levels go from fine to coarse"
        )
    encoder.gives_pyramid = True
    with torch.no_grad():
        masked, unmasked = encoder(data, mask), encoder(data)
        filler = samples.data(layout, ROWS, 5, seed=7)
        longer = encoder(torch.cat([data, filler], dim=2), torch.cat([mask, mask.new_zeros(ROWS, 5)], dim=1))
    for name in ("tokens", "mask", "pooled", "present"):
        same = torch.equal(getattr(plain, name), getattr(masked, name))
        assert same, f"{where}: {name} are others when a pyramid is asked for"
    for encoded in (masked, unmasked):
        shapes = [tuple(level.shape) for level in encoded.pyramid]
        expected = [(ROWS, level.channels, *level.size(data.shape[2:])) for level in encoder.levels]
        assert shapes == expected, f"{where}: the maps are {shapes}, not {expected}"
    for level, map_, padded in zip(encoder.levels, masked.pyramid, longer.pyramid, strict=True):
        real = along(mask[:, :: level.stride[0]], layout)
        assert not bool((map_ * ~real).any()), f"{where}: a map is not zero where masked"
        assert_same(padded[:, :, : map_.shape[2]], map_, f"{where}: longer padding changes a map")
        assert not bool(padded[:, :, map_.shape[2] :].any()), f"{where}: a map is not zero in longer padding"
    for i in range(ROWS):
        alone = encoder(data[i : i + 1], mask[i : i + 1]).pyramid
        rows = tuple(map_[i : i + 1] for map_ in masked.pyramid)
        assert_same(alone, rows, f"{where}: the maps of row {i} depend on its batch")
    encoder.train()
    first = next(p for p in encoder.parameters() if p.requires_grad and p.dim() > 1)
    for map_ in encoder(data, mask).pyramid:
        (gradient,) = torch.autograd.grad(map_.square().sum(), first, retain_graph=True)
        assert bool(gradient.isfinite().all() and gradient.any()), (
            f"{where}: no gradient reaches the first layer from a map"
        )

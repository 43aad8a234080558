"""Checks of features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.expert import Features
from sensorium.core.layout import Grid, Layout, Row
from sensorium.core.recipe import Spec
from sensorium.core.registry import build, find
from sensorium.testing import samples
from sensorium.testing.encoders import along, data_steps
from sensorium.testing.general import assert_same, check_description, check_module

ROWS = 12


def check_features(kind: str) -> None:
    """Check the features ``kind``: rows independent, unaffected by padding and masked values, reproducible, identical
    after loading."""
    check_description("features", kind)
    fitting = layouts(kind)
    assert fitting, f"features/{kind} reads none of the sample layouts"
    for layout in fitting:
        check_layout(kind, layout)


def layouts(kind: str) -> list[Layout]:
    """The sample layouts that features ``kind`` read."""
    return [layout for layout in samples.FEATURED if find("features", kind).reads(layout)]


def check_layout(kind: Spec, layout: Layout) -> None:
    """Run all checks on one ``layout``; ``kind`` is a name or a specification with options."""
    where = f"features/{kind} on {layout}"
    field = sample(layout)
    part = fitted(kind, layout)
    features = part(field)
    compact = part.compact(features, field)
    check_shape(features, compact, ROWS, where)
    assert not compact.is_sparse, f"{where}: compact returns a sparse tensor"
    sparse = part.nonzero(field)
    assert sparse.is_sparse, f"{where}: nonzero returns a dense tensor"
    assert sparse.is_coalesced(), f"{where}: nonzero returns a tensor that is not coalesced"
    assert_near(sparse.to_dense(), features, f"{where}: nonzero and forward disagree")
    if part.sparse:
        assert_near(part.compact(sparse, field), compact, f"{where}: compact depends on the form of the features")
    check_module(lambda: fitted(kind, layout), lambda module: module(field))
    check_saved(kind, layout, part, field, where)
    for i in range(ROWS):
        alone = cut(field, i, i + 1)
        assert_near(part(alone), features[i : i + 1], f"{where}: row {i} depends on its batch")
        assert_near(part.compact(part(alone), alone), compact[i : i + 1], f"{where}: compact row {i} depends on its batch")
    check_masked(part, layout, field, where)
    assert field.mask is not None
    nothing = Field(field.data, field.present, torch.zeros_like(field.mask))
    check_shape(part(nothing), part.compact(part(nothing), nothing), ROWS, f"{where}, nothing real")
    unmasked = Field(field.data, field.present, None)
    ones = Field(field.data, field.present, torch.ones_like(field.mask))
    assert_near(part(unmasked), part(ones), f"{where}: a mask of ones is not the same as no mask")
    few: Features = build("features", kind, layout)
    few.fit(iter([cut(field, 0, 1)]))
    features = few(field)
    check_shape(features, few.compact(features, field), ROWS, f"{where}, fitted on one row")


def sample(layout: Layout, seed: int = 0) -> Field:
    """Rows of ``layout`` with different lengths, drawn by ``seed``."""
    present = torch.ones(ROWS, dtype=torch.bool)
    return Field(samples.data(layout, ROWS, seed=seed), present, samples.masks(layout, ROWS, seed=seed))


def cut(field: Field, start: int, stop: int) -> Field:
    """The rows ``start`` to ``stop`` of ``field``."""
    return field.map(lambda tensor: tensor[start:stop])


def batches(field: Field) -> Iterator[Field]:
    """``field`` as an iterator of two batches, which can be consumed once."""
    yield cut(field, 0, ROWS - 5)
    yield cut(field, ROWS - 5, ROWS)


def fitted(kind: Spec, layout: Layout) -> Features:
    """Features ``kind`` fitted to the sample rows of ``layout``."""
    torch.manual_seed(0)
    part: Features = build("features", kind, layout)
    part.fit(batches(sample(layout)))
    return part.eval()


def check_shape(features: Tensor, compact: Tensor, rows: int, where: str) -> None:
    """Check that ``features`` and ``compact`` are float32 matrices of ``rows`` rows for linear models and trees.
    ``where`` names the case in messages."""
    for name, values in (("features", features), ("compact features", compact)):
        assert values.dim() == 2, f"{where}: {name} have {values.dim()} axes, not 2"
        assert len(values) == rows, f"{where}: {name} have {len(values)} rows, not {rows}"
        assert values.dtype == torch.float32, f"{where}: {name} are {values.dtype}"
        assert not values.requires_grad, f"{where}: {name} ask for a gradient"
    assert bool(features.isfinite().all()), f"{where}: features are not finite"
    assert not bool(compact.isinf().any()), f"{where}: compact features are infinite"


def check_saved(kind: Spec, layout: Layout, part: Features, field: Field, where: str) -> None:
    """Check that ``part``, features ``kind`` of ``layout``, gives bit-identical values for ``field`` when fitted again,
    loaded, copied and moved. ``where`` names the case in messages."""
    features = part(field)
    compact = part.compact(features, field)

    def check_equal(other: Features, how: str) -> None:
        again = other(field)
        assert torch.equal(again, features), f"{where}: {how} gives other features"
        short = other.compact(again, field)
        assert torch.equal(short.isnan(), compact.isnan()), f"{where}: {how} gives other compact features"
        assert torch.equal(short.nan_to_num(), compact.nan_to_num()), f"{where}: {how} gives other compact features"

    again = fitted(kind, layout)
    check_equal(again, "fitting again")
    torch.manual_seed(1)
    fresh: Features = build("features", kind, layout)
    fresh.load_state_dict(part.state_dict())
    check_equal(fresh.eval(), "the same state in a new instance")
    other: Features = build("features", kind, layout)
    other.fit(batches(sample(layout, seed=5)))
    other(field)  # whatever it remembers of the first state must go
    other.load_state_dict(part.state_dict())
    check_equal(other.eval(), "the same state in an instance fitted on other rows")
    check_equal(copy.deepcopy(part), "a copy")
    for device in ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",):
        moved, on_device = copy.deepcopy(part).to(device), field.to(device)
        repeated = moved(on_device)
        assert repeated.device.type == device, f"{where}: features of a field on {device} are on {repeated.device}"
        assert_near(repeated.cpu(), features, f"{where}: {device} gives other features")
        short = moved.compact(repeated, on_device).cpu()
        assert_near(short, compact, f"{where}: {device} gives other compact features")
        check_equal(moved.to("cpu"), "moving")


def check_masked(part: Features, layout: Layout, field: Field, where: str) -> None:
    """Check that masked values of ``field``, and their number, do not change what ``part`` returns for ``layout``.
    ``where`` names the case in messages."""
    data, mask = field.data, field.mask
    assert mask is not None
    features = part(field)
    compact = part.compact(features, field)

    def check_equal(other: Field, what: str) -> None:
        features_again = part(other)
        assert_near(features_again, features, f"{where}: {what} changes features")
        assert_near(part.compact(features_again, other), compact, f"{where}: {what} changes compact features")

    spoilt = torch.where(along(mask, layout), data, samples.data(layout, ROWS, data_steps(data, layout), seed=9))
    check_equal(Field(spoilt, field.present, mask), "what stands under the mask")
    if isinstance(layout, Row):
        return
    axis = 2 if isinstance(layout, Grid) else 1
    for more in (1, 2, 5):
        filler = samples.data(layout, ROWS, more, seed=7)
        longer = torch.cat([data, filler], dim=axis)
        check_equal(
            Field(longer, field.present, torch.cat([mask, mask.new_zeros(ROWS, more)], 1)), f"padding of {more} steps"
        )


def assert_near(a: Tensor, b: Tensor, what: str) -> None:
    """Raise ``AssertionError`` with ``what`` unless ``a`` and ``b`` are equal up to rounding."""
    assert a.shape == b.shape, f"{what}: {tuple(a.shape)}, not {tuple(b.shape)}"
    assert_same(a, b, what)


def looks(kind: str) -> list[Callable[[dict[str, Any]], Any]]:
    """By sample layout, the output of features ``kind`` in which a change of an option must show."""

    def on(layout: Layout) -> Callable[[dict[str, Any]], Any]:
        def look(spec: dict[str, Any]) -> Any:
            part, field = fitted(spec, layout), sample(layout)
            features = part(field)
            return features, part.compact(features, field)

        return look

    return [on(layout) for layout in layouts(kind)]

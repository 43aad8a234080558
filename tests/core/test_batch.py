"""What flows: hiding, spreading and joining keep the rows they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from sensorium.core.batch import Batch, Encoded, Field, hide, joined, only, repeated
from sensorium.nn.loss_reduction import weighted_mean
from sensorium.nn.streams import random_subsets

masks = st.lists(st.booleans(), min_size=1, max_size=9).map(torch.tensor)


def encoded(present: Tensor, seed: int = 0) -> Encoded:
    draw = torch.Generator().manual_seed(seed)
    rows = len(present)
    tokens = torch.randn(rows, 3, 4, generator=draw)
    pooled = torch.randn(rows, 4, generator=draw)
    return Encoded(tokens, torch.ones(rows, 3).bool(), pooled, torch.ones(rows).bool()).hide(present)


@settings(deadline=None)
@given(masks, st.data())
def test_hidden_rows_are_zero_and_the_others_untouched(present: Tensor, data: st.DataObject) -> None:
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(present), max_size=len(present))))
    part = encoded(present)
    hidden = part.hide(keep)
    assert torch.equal(hidden.present, present & keep)
    for tensor, before in ((hidden.tokens, part.tokens), (hidden.pooled, part.pooled), (hidden.mask, part.mask)):
        assert not tensor[~keep].any()
        assert torch.equal(tensor[keep], before[keep])


@settings(deadline=None)
@given(masks)
def test_spreading_undoes_picking(present: Tensor) -> None:
    whole = encoded(present)
    index = present.nonzero().squeeze(1)
    picked = whole.map(lambda t: t[index])
    back = picked.spread(index, len(present))
    for one, other in ((back.tokens, whole.tokens), (back.pooled, whole.pooled), (back.mask, whole.mask)):
        assert torch.equal(one, other)
    assert torch.equal(back.present, present)


def test_only_and_hide_name_streams() -> None:
    present = torch.tensor([True, True, False])
    parts = {name: encoded(present, i) for i, name in enumerate("abc")}
    left = only(parts, "b")
    assert torch.equal(left["b"].tokens, parts["b"].tokens)
    for gone in "ac":
        assert not left[gone].present.any()
        assert not left[gone].tokens.any()
    keep = torch.tensor([True, False, True])
    some = hide(parts, {"a": keep})
    assert some["a"].present.tolist() == [True, False, False]
    assert some["b"] is parts["b"]


def test_a_batch_without_a_stream() -> None:
    present = torch.tensor([True, False])
    batch = Batch({s: Field(torch.ones(2, 3), present) for s in ("x", "to")}, {}, torch.ones(2))
    less = batch.without("to")
    assert not less.inputs["to"].present.any()
    assert torch.equal(less.inputs["x"].present, present)
    assert batch.inputs["to"].present.any(), "the batch itself is not changed"
    assert less.rows == 2


def test_table_columns_side_by_side() -> None:
    one = Field(torch.tensor([[1.0], [2.0]]), torch.tensor([True, False]))
    other = Field(torch.tensor([[3.0], [4.0]]), torch.tensor([False, False]))
    row = Field.join([one, other])
    assert row.data.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert row.mask is not None
    assert row.mask.tolist() == [[True, False], [False, False]]
    assert row.present.tolist() == [True, False]


def test_batches_joined_are_the_batch() -> None:
    whole = encoded(torch.ones(7).bool())
    parts = [whole.map(lambda t, i=i: t[i : i + 3]) for i in (0, 3, 6)]  # type: ignore[misc]
    assert torch.equal(joined(parts).tokens, whole.tokens)
    assert joined([]) == {}
    assert torch.equal(repeated(whole.map(lambda t: t[:1]), 4).pooled, whole.pooled[:1].expand(4, -1))


def test_moving_keeps_the_struct() -> None:
    batch = Batch({"x": Field(torch.ones(2, 3), torch.ones(2).bool())}, {}, torch.ones(2))
    moved = batch.to("cpu").map(lambda t: t.double() if t.is_floating_point() else t)
    assert moved.inputs["x"].data.dtype == torch.float64
    assert moved.inputs["x"].mask is None
    assert list(moved.inputs) == ["x"]


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**31), st.floats(0, 1))
def test_random_subsets_are_never_none_and_never_all(rows: int, streams: int, seed: int, holes: float) -> None:
    torch.manual_seed(seed)
    present = torch.rand(rows, streams) >= holes
    keep = random_subsets({str(i): present[:, i] for i in range(streams)})
    kept = torch.stack([keep[str(i)] for i in range(streams)], dim=1)
    assert not (kept & ~present).any(), "what is missing stays missing"
    have, left = present.sum(1), kept.sum(1)
    assert torch.equal(left > 0, have > 0)
    assert (left[have >= 2] < have[have >= 2]).all()
    assert torch.equal(left[have == 1], have[have == 1])


def test_random_subsets_reach_every_subset() -> None:
    torch.manual_seed(0)
    present = torch.ones(2000).bool()
    keep = random_subsets(dict.fromkeys("abc", present))
    seen = {tuple(row) for row in torch.stack(list(keep.values()), dim=1).tolist()}
    assert len(seen) == 6  # all but none and all


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(0.0625, 8, width=32), st.booleans()), min_size=1, max_size=30
    )
)
def test_the_weighted_mean_is_the_formula(rows: list[tuple[float, float, bool]]) -> None:
    values = torch.tensor([v for v, _, _ in rows])
    weight = torch.tensor([w if known else 0.0 for _, w, known in rows])
    # What stands in rows of no weight must not matter, not even to the gradient.
    spoilt = torch.where(weight > 0, values, torch.nan).requires_grad_()
    result = weighted_mean(spoilt, weight)
    result.backward()  # type: ignore[no-untyped-call]
    v, w = values.double().numpy(), weight.double().numpy()
    want = float((v * w).sum() / w.sum()) if w.sum() > 0 else 0.0
    np.testing.assert_allclose(float(result.detach()), want, rtol=1e-4, atol=1e-2)
    assert spoilt.grad is not None
    np.testing.assert_allclose(spoilt.grad.numpy(), w / w.sum() if w.sum() > 0 else 0 * w, rtol=1e-4, atol=1e-6)


# ── where tokens stood, and feature maps ───────────────────────────────────────────────────────────────────────────


def mapped(present: Tensor) -> Encoded:
    """Encodings of three tokens in a row, with a pyramid of two maps."""
    maps = (torch.randn(len(present), 2, 6), torch.randn(len(present), 4, 3, 2))
    return replace(encoded(torch.ones(len(present)).bool()), grid=(3,), pyramid=maps).hide(present)


def test_grid_and_pyramid_go_where_the_tokens_go() -> None:
    present = torch.tensor([True, False, True, True])
    part = mapped(present)
    assert all(not level[1].any() and level[0].any() for level in part.pyramid)
    index = torch.tensor([0, 2, 3])
    picked = part.map(lambda t: t[index])
    spread = picked.spread(index, 4)
    for other in (spread, joined([part.map(lambda t: t[:3]), part.map(lambda t: t[3:])]), part.to("cpu")):
        assert other.grid == (3,)
        assert len(other.pyramid) == 2
        assert all(torch.equal(a, b) for a, b in zip(other.pyramid, part.pyramid, strict=True))
    assert repeated(part.map(lambda t: t[:1]), 5).pyramid[1].shape == (5, 4, 3, 2)


def test_the_grid_is_a_part_of_the_structs_shape() -> None:
    part = mapped(torch.ones(2).bool())
    leaves, spec = pytree.tree_flatten(part)
    assert all(isinstance(leaf, Tensor) for leaf in leaves)
    assert len(leaves) == 6
    assert spec == pytree.tree_flatten(part.map(torch.clone))[1]
    assert spec != pytree.tree_flatten(replace(part, grid=(3, 1)))[1]
    back = pytree.treespec_loads(pytree.treespec_dumps(spec))
    again = pytree.tree_unflatten(leaves, back)
    assert again.grid == (3,)
    assert torch.equal(again.pyramid[1], part.pyramid[1])


def test_a_frame_goes_with_its_field() -> None:
    frame = torch.eye(2, 3).expand(2, 2, 3)
    field = Field(torch.ones(2, 1, 4, 4), torch.ones(2).bool(), frame=frame)
    assert field.hide(torch.tensor([True, False])).frame is frame
    (only_row,) = [leaf for leaf in pytree.tree_leaves(field.map(lambda t: t[:1])) if leaf is not None and leaf.dim() == 3]
    assert only_row.shape == (1, 2, 3)


class Double(torch.nn.Module):
    def forward(self, part: Encoded) -> Encoded:
        return part.map(lambda t: t * 2 if t.is_floating_point() else t).hide(part.present)


def test_structs_with_grids_are_compiled_and_exported() -> None:
    part = mapped(torch.tensor([True, False]))
    want = Double()(part)
    compiled = torch.compile(Double(), backend="eager", fullgraph=True)(part)
    exported = torch.export.export(Double(), (part,)).module()(part)
    for result in (compiled, exported):
        assert isinstance(result, Encoded)
        assert result.grid == (3,)
        assert torch.equal(result.tokens, want.tokens)
        assert all(torch.equal(a, b) for a, b in zip(result.pyramid, want.pyramid, strict=True))


def test_batches_with_and_without_frames_are_joined() -> None:
    """A batch in which no row has the image has no frame: its rows get zeros."""
    one = Field(torch.zeros(2, 3), torch.ones(2, dtype=torch.bool), frame=torch.ones(2, 2, 3), extent=torch.ones(2, 2))
    none = Field(torch.zeros(1, 3), torch.zeros(1, dtype=torch.bool))
    for parts, at in (([one, none], [1, 1, 0]), ([none, one], [0, 1, 1])):
        both = joined(parts)
        assert both.frame[:, 0, 0].tolist() == both.extent[:, 0].tolist() == at
        assert both.mask is None

"""Shared layers against torch's own and against plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sensorium.core.errors import ConfigError
from sensorium.nn.attention import Attention, Block, Trunk
from sensorium.nn.conv import BatchNorm, cells, clear, thin
from sensorium.nn.pool import masked_max, masked_mean
from sensorium.nn.positional_encoding import grid_sinusoids, sinusoids
from sensorium.nn.recurrent import backwards
from sensorium.nn.streams import shares

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)


def reference(attention: Attention) -> nn.MultiheadAttention:
    """torch's attention with the same weights."""
    dim = attention.query.in_features
    theirs = nn.MultiheadAttention(dim, attention.heads, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key_value.bias]))
    theirs.out_proj.load_state_dict(attention.output.state_dict())
    return theirs


def test_attention_is_torchs() -> None:
    attention = Attention(8, 2).double()
    queries, context = torch.randn(3, 5, 8).double(), torch.randn(3, 4, 8).double()
    expected, _ = reference(attention)(queries, context, context, key_padding_mask=~MASK)
    assert torch.allclose(attention(queries, context, MASK), expected)


def test_attention_with_a_mask_for_each_query() -> None:
    attention = Attention(8, 2).double()
    x = torch.randn(3, 4, 8).double()
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    expected, _ = reference(attention)(x, x, x, attn_mask=~causal)
    assert torch.allclose(attention(x, x, causal.expand(3, 4, 4)), expected)


def test_attention_to_nothing_is_the_bias_and_trains() -> None:
    attention = Attention(8, 2)
    x = torch.randn(2, 3, 8, requires_grad=True)
    out = attention(x, x, torch.tensor([[True, False, True], [False, False, False]]))
    assert torch.allclose(out[1], attention.output.bias.expand(3, 8))
    out.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert not bool(x.grad[1].any())


def test_block_is_torchs_pre_norm_layer() -> None:
    block = Block(8, 2).double().eval()
    theirs = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).double().train()
    theirs.self_attn.load_state_dict(reference(block.attention).state_dict())
    theirs.norm1.load_state_dict(block.norm_attention.state_dict())
    theirs.norm2.load_state_dict(block.norm_mlp.state_dict())
    theirs.linear1.load_state_dict(block.mlp.layers[0].state_dict())
    theirs.linear2.load_state_dict(block.mlp.layers[3].state_dict())
    x = torch.randn(3, 4, 8).double()
    assert torch.allclose(block(x, MASK)[MASK], theirs(x, src_key_padding_mask=~MASK)[MASK])


def test_trunk_is_zero_where_masked() -> None:
    out = Trunk(8, 2, 2)(torch.randn(3, 4, 8), MASK)
    assert not bool(out[~MASK].any())
    assert bool(out[MASK].any())


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ConfigError, match="3 heads cannot share a width of 8"):
        Attention(8, 3)


def test_pools_are_numpys() -> None:
    x = torch.randn(3, 4, 5).double() - 3  # all below zero: a zero at a masked place would win
    mask = torch.cat([MASK[:2], torch.zeros(1, 4, dtype=torch.bool)])
    for i in range(2):
        real = x[i][mask[i]].numpy()
        assert torch.allclose(masked_mean(x, mask)[i], torch.from_numpy(real.mean(axis=0)))
        assert torch.allclose(masked_max(x, mask)[i], torch.from_numpy(real.max(axis=0)))
    assert not bool(masked_mean(x, mask)[2].any())
    assert not bool(masked_max(x, mask)[2].any())


def test_pools_ignore_what_is_masked_even_if_not_a_number() -> None:
    x = torch.randn(3, 4, 5).masked_fill(~MASK.unsqueeze(-1), float("nan"))
    assert bool(masked_mean(x, MASK).isfinite().all())
    assert bool(masked_max(x, MASK).isfinite().all())


def test_positions_are_a_dot_product_of_distance() -> None:
    """The sum of products of two positions depends on how far apart they are, and on nothing else."""
    table = sinusoids(20, 16, torch.zeros(1).double())
    product = table @ table.T
    for distance in range(5):
        assert torch.allclose(product.diagonal(distance), product[0, distance])
    assert torch.allclose(table.square().sum(dim=1), torch.tensor(8.0).double())


@pytest.mark.parametrize("dim", [1, 2, 7, 32])
def test_grid_positions_differ_and_do_not_depend_on_the_grids_end(dim: int) -> None:
    small, large = grid_sinusoids((3, 4), dim, torch.zeros(1)), grid_sinusoids((5, 4), dim, torch.zeros(1))
    assert small.shape == (12, dim)
    assert torch.equal(small, large[:12])
    if dim >= 4:
        assert len(small.unique(dim=0)) == 12


def test_masks_shrink_as_grids_do() -> None:
    for length in range(1, 12):
        for stride in (1, 2, 4):
            kernel = 2 * stride + 1
            conv = nn.Conv1d(1, 1, kernel, stride=stride, padding=kernel // 2)
            mask = thin(torch.ones(1, length, dtype=torch.bool), stride)
            assert mask is not None
            assert conv(torch.zeros(1, 1, length)).shape[2] == mask.shape[1]
        mask = thin(torch.ones(1, length, dtype=torch.bool), 2)
        assert mask is not None
        assert nn.MaxPool1d(2, ceil_mode=True)(torch.zeros(1, 1, length)).shape[2] == mask.shape[1]


def test_cells_are_row_by_row() -> None:
    grid = torch.arange(24.0).reshape(1, 2, 3, 4)
    tokens, real = cells(grid, torch.tensor([[True, True, False]]))
    assert tokens[0, 5].tolist() == [grid[0, 0, 1, 1], grid[0, 1, 1, 1]]
    assert real[0].tolist() == [True] * 8 + [False] * 4
    assert not bool(clear(grid, torch.tensor([[True, True, False]]))[:, :, 2].any())


def test_batch_norm_of_one_cell_uses_what_it_has_learnt() -> None:
    norm = BatchNorm(3, 1)
    norm(torch.randn(8, 3, 4))
    one = torch.randn(1, 3, 1)
    trained = norm(one)
    assert torch.allclose(trained, norm.eval()(one))


def test_backwards_is_its_own_inverse_and_turns_each_row_at_its_own_end() -> None:
    x = torch.arange(12.0).reshape(3, 4, 1)
    turned = backwards(x, MASK)
    assert turned[:, :, 0].tolist()[1][:2] == [5.0, 4.0]
    assert turned[:, :, 0].tolist()[0] == [3.0, 2.0, 1.0, 0.0]
    assert torch.equal(backwards(turned, MASK), x)


def test_shares_sum_to_one_over_what_is_there() -> None:
    present = torch.tensor([[True, True], [True, False], [False, False]])
    share = shares(torch.randn(3, 2, 4), present)
    assert torch.allclose(share.sum(dim=1), torch.tensor([1.0, 1.0, 0.0])[:, None].expand(3, 4))
    assert not bool(share[~present].any())

"""Encoders against torch's own layers, and against what they are for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sensorium.core.batch import Field
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid, Ids, Layout, Points, Row
from sensorium.core.registry import build, find, kinds
from sensorium.encoders.cells import Cells
from sensorium.encoders.convnet import Convnet
from sensorium.encoders.mlp import Mlp
from sensorium.encoders.patch import Patch
from sensorium.encoders.recurrent import Recurrent
from sensorium.encoders.transformer import Transformer
from sensorium.model import Model
from sensorium.nn.conv import first_stride
from sensorium.nn.positional_encoding import grid_sinusoids
from sensorium.testing import samples

torch.set_num_threads(1)


# ── against torch ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_recurrent_is_torchs_run_on_each_row_alone(cell: str, bidirectional: bool) -> None:
    """Stacked layers of both directions on a padded batch equal torch's stack on each row without padding."""
    layout, dim = Grid(3, (9,)), 8
    encoder = build(
        "encoders", {"kind": "recurrent", "dim": dim, "depth": 2, "cell": cell, "bidirectional": bidirectional}, layout
    )
    assert isinstance(encoder, Recurrent)
    ways = 2 if bidirectional else 1
    theirs = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[cell](
        dim, dim // ways, num_layers=2, bidirectional=bidirectional, batch_first=True
    )
    state = {}
    for depth, layer in enumerate(encoder.layers):
        for way, suffix in zip(range(ways), ("", "_reverse"), strict=False):
            for name, value in layer.ways[way].state_dict().items():
                state[name.replace("_l0", f"_l{depth}{suffix}")] = value
    theirs.load_state_dict(state)
    encoder.eval()
    data, mask = samples.data(layout, 5), samples.masks(layout, 5)
    encoded = encoder(data, mask)
    for i in range(5):
        steps = encoder.first(data[i, :, : int(mask[i].sum())].T)
        expected, _ = theirs(steps.unsqueeze(0))
        assert torch.allclose(encoded.tokens[i][mask[i]], expected[0], atol=1e-5)


def torchs_trunk(encoder: Any) -> nn.TransformerEncoder:
    """torch's transformer with an encoder's weights."""
    layers = []
    for block in encoder.stack.blocks:
        layer = nn.TransformerEncoderLayer(
            encoder.dim, block.attention.heads, 4 * encoder.dim, 0.0, "gelu", batch_first=True, norm_first=True
        )
        a = block.attention
        with torch.no_grad():
            layer.self_attn.in_proj_weight.copy_(torch.cat([a.query.weight, a.key_value.weight]))
            layer.self_attn.in_proj_bias.copy_(torch.cat([a.query.bias, a.key_value.bias]))
        layer.self_attn.out_proj.load_state_dict(a.output.state_dict())
        layer.norm1.load_state_dict(block.norm_attention.state_dict())
        layer.norm2.load_state_dict(block.norm_mlp.state_dict())
        layer.linear1.load_state_dict(block.mlp.layers[0].state_dict())
        layer.linear2.load_state_dict(block.mlp.layers[3].state_dict())
        layers.append(layer)
    stack = nn.TransformerEncoder(layers[0], len(layers), norm=encoder.stack.norm, enable_nested_tensor=False)
    stack.layers = nn.ModuleList(layers)
    return stack.train()  # with no dropout training is evaluation, without torch's fast path


@pytest.mark.parametrize(
    ("kind", "layout"),
    [("transformer", Ids(30, 9)), ("transformer", Grid(3, (9,))), ("patch", Grid(2, (9, 6))), ("cells", Row((0, 4, 0)))],
)
def test_transformers_are_torchs(kind: str, layout: Layout) -> None:
    encoder = build("encoders", {"kind": kind, "dim": 16, "depth": 2, "heads": 2}, layout).eval()
    data, mask = samples.data(layout, 5), samples.masks(layout, 5)
    tokens, real = encoder.embed(data, mask)
    expected = torchs_trunk(encoder)(tokens, src_key_padding_mask=~real)
    encoded = encoder(data, mask)
    assert torch.allclose(encoded.tokens[real], expected[real], atol=1e-5)
    means = torch.stack([expected[i][real[i]].mean(dim=0) for i in range(5)])
    assert torch.allclose(encoded.pooled, means, atol=1e-5)


def test_a_patch_is_a_linear_map_of_its_cells() -> None:
    encoder = Patch(Grid(2, (6, 9)), dim=8, patch=3, heads=2)
    data = torch.randn(2, 2, 6, 9)
    tokens, _ = encoder.embed(data, None)
    flat = encoder.cut.weight.flatten(1)
    place = grid_sinusoids((2, 3), 8, data)
    expected = data[:, :, 3:6, 6:9].flatten(1) @ flat.T + encoder.cut.bias + place[5]
    assert torch.allclose(tokens[:, 5], expected, atol=1e-5)


def test_a_table_token_is_its_value_times_a_direction() -> None:
    encoder = Cells(Row((0, 3, 0)), dim=8, heads=2)
    tokens, _ = encoder.embed(torch.tensor([[2.0, 1.0, -3.0]]), None)
    assert torch.allclose(tokens[0, 2], encoder.shift[2] - 3.0 * encoder.scale[1])
    embedding = encoder.parts.embedding
    assert embedding is not None
    assert torch.allclose(tokens[0, 1], encoder.shift[1] + embedding.weight[1])


# ── shapes and refusals ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "stride"), [((28, 28), 1), ((60, 40), 2), ((64, 64), 2), ((128, 128), 4), ((100,), 1), ((4000,), 4)]
)
def test_the_first_stride_keeps_grids_small(size: tuple[int, ...], stride: int) -> None:
    assert first_stride(size) == stride
    encoded = Convnet(Grid(1, size), width=4, dim=8)(torch.randn(2, 1, *size))
    assert encoded.tokens.shape[1] == math.prod(math.ceil(n / (8 * stride)) for n in size)


def test_unfit_layouts_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="take encoder 'patch'"):
        Transformer(Grid(1, (8, 8)))
    with pytest.raises(ConfigError, match="choose an even dim"):
        Recurrent(Ids(5, 5), dim=7)


def test_ids_need_no_mask() -> None:
    """Zero pads: what a mask would say is already there."""
    data = torch.tensor([[3, 4, 0, 0], [5, 0, 0, 0]])
    for kind in kinds("encoders"):
        if Ids in find("encoders", kind).reads:
            encoder = build("encoders", kind, Ids(10, 4)).eval()
            assert torch.equal(encoder(data).pooled, encoder(data, data != 0).pooled), kind


def test_codes_out_of_range_are_held_inside_their_column() -> None:
    encoder = Mlp(Row((3, 3))).eval()
    assert torch.equal(encoder(torch.tensor([[7.0, 1.0]])).pooled, encoder(torch.tensor([[2.0, 1.0]])).pooled)


def test_a_missing_cell_is_not_a_zero() -> None:
    encoder = Mlp(Row((0, 0))).eval()
    data = torch.tensor([[0.0, 1.0]])
    assert not torch.allclose(encoder(data).pooled, encoder(data, torch.tensor([[False, True]])).pooled)


# ── what they are for ──────────────────────────────────────────────────────────────────────────────────────────────


def learns(encoder: Encoder, data: Tensor, label: Tensor, *, steps: int = 60, lr: float = 3e-3) -> float:
    """The training accuracy that an encoder and a linear layer reach."""
    head = nn.Linear(encoder.dim, int(label.max()) + 1)
    step = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=lr)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(head(encoder(data).pooled), label)
        step.zero_grad()
        loss.backward()
        step.step()
    with torch.no_grad():
        return float((head(encoder.eval()(data).pooled).argmax(dim=1) == label).float().mean())


def test_a_waveform_is_read_in_stacks_of_samples() -> None:
    long = build("encoders", {"kind": "recurrent", "dim": 8}, Grid(1, (8_000,))).eval()
    signal, mask = torch.randn(2, 1, 8_000), torch.arange(8_000) < torch.tensor([[8_000], [4_001]])
    out = long(signal, mask)
    assert out.tokens.shape == (2, 500, 8)
    assert out.mask.sum(dim=1).tolist() == [500, 251]
    # The same as a plain recurrence over rows of 16 samples, the last one of the shorter recording made whole by zeros.
    plain = build("encoders", {"kind": "recurrent", "dim": 8}, Grid(16, (500,))).eval()
    plain.load_state_dict(long.state_dict())
    stacked = signal.masked_fill(~mask.unsqueeze(1), 0.0).reshape(2, 500, 16).transpose(1, 2)
    torch.testing.assert_close(out.pooled, plain(stacked, out.mask).pooled)
    with pytest.raises(ConfigError, match="stack"):
        build("encoders", {"kind": "recurrent", "stack": 0}, Grid(1, (8,)))


@pytest.mark.parametrize("kind", ["convnet", "patch", "recurrent"])
def test_grid_encoders_tell_patterns_apart(kind: str) -> None:
    torch.manual_seed(0)
    label = torch.arange(48) % 3
    wave = torch.arange(12.0)
    patterns = torch.stack([wave.sin()[:, None].expand(12, 12), wave.sin().expand(12, 12), torch.zeros(12, 12)])
    data = patterns[label].unsqueeze(1) + 0.3 * torch.randn(48, 1, 12, 12)
    encoder = build("encoders", {"kind": kind, "dim": 16, **({"width": 8} if kind == "convnet" else {})}, Grid(1, (12, 12)))
    assert learns(encoder, data, label) > 0.95


@pytest.mark.parametrize("kind", ["bag_of_words", "recurrent", "transformer"])
def test_word_encoders_tell_word_order_apart(kind: str) -> None:
    """``7 8`` somewhere in noise against ``8 7``: a bag of single words could not."""
    torch.manual_seed(0)
    label = torch.arange(64) % 2
    data = torch.randint(10, 20, (64, 8))
    place = torch.randint(0, 7, (64,))
    data[torch.arange(64), place] = 7 + label
    data[torch.arange(64), place + 1] = 8 - label
    encoder = build("encoders", {"kind": kind, "dim": 32}, Ids(20, 8))
    assert learns(encoder, data, label, steps=120, lr=1e-2) > 0.9


@pytest.mark.parametrize("kind", ["mlp", "cells"])
def test_table_encoders_learn_a_product_of_columns(kind: str) -> None:
    torch.manual_seed(0)
    number, code = torch.randn(128), torch.randint(1, 3, (128,))
    label = ((number > 0) ^ (code == 1)).long()
    encoder = build("encoders", {"kind": kind, "dim": 32}, Row((0, 3)))
    assert learns(encoder, torch.stack([number, code.float()], dim=1), label) > 0.95


# ── where tokens stood ─────────────────────────────────────────────────────────────────────────────────────────────

PLACED = [(kind, layout) for kind in ("convnet", "resnet", "vgg", "mobilenet", "shufflenet", "patch", "vit")
          for layout in (Grid(2, (24, 40)), Grid(1, (9, 8, 16)), Grid(3, (64,)))]  # fmt: skip


@pytest.mark.parametrize(("kind", "layout"), PLACED)
def test_a_change_in_one_place_shows_most_in_the_token_of_that_place(kind: str, layout: Grid) -> None:
    """Of tokens and of every map; so the grid is told in the order in which the tokens lie."""
    torch.manual_seed(0)
    encoder = build("encoders", {"kind": kind}, layout).eval()
    encoder.gives_pyramid = True
    draw = torch.Generator().manual_seed(1)
    for _ in range(4):
        data = 0.1 * torch.randn(1, layout.channels, *layout.size, generator=draw)
        at = [int(torch.randint(0, n, (), generator=draw)) for n in layout.size]
        # A block, not a cell: one cell may fall between the cells that a stride looks at.
        spot = torch.zeros(layout.size)
        spot[tuple(slice(max(0, i - 2), i + 3) for i in at)] = 1.0
        with torch.no_grad():
            before, after = encoder(data), encoder(data + 3 * spot)
        changed = (after.tokens - before.tokens).norm(dim=2).reshape(encoder(data).grid)
        maps = [(b - a).norm(dim=1)[0] for a, b in zip(before.pyramid, after.pyramid, strict=True)]
        for result in (changed, *maps):
            strides = [n / m for n, m in zip(layout.size, result.shape, strict=True)]
            best = torch.unravel_index(result.argmax(), result.shape)
            for i, step, place in zip(best, strides, at, strict=True):
                # Within one cell: the middle of the block may lie at the border of two.
                assert abs((float(i) + 0.5) * step - (place + 0.5)) <= step + 2


def test_steps_and_words_are_told_in_a_row() -> None:
    for kind in ("recurrent", "transformer", "bag_of_words", "tfidf", "word_vectors"):
        assert build("encoders", kind, Ids(30, 9)).eval()(samples.data(Ids(30, 9), 2)).grid == (9,), kind
    assert build("encoders", "tcn", Grid(1, (14, 9))).eval()(torch.randn(2, 1, 14, 9)).grid == (14,)
    assert build("encoders", {"kind": "recurrent", "stack": 4}, Grid(3, (21,))).eval()(torch.randn(2, 3, 21)).grid == (6,)
    assert build("encoders", "frames", Grid(2, (6, 8, 8))).eval()(torch.randn(2, 2, 6, 8, 8)).grid == (6,)
    for kind, layout in (("statistics", Grid(3, (20,))), ("cells", Row((0, 4))), ("pointnet", Points(4, 16))):
        assert build("encoders", kind, layout).eval()(samples.data(layout, 2)).grid == (), kind


@pytest.mark.parametrize("kind", ["convnet", "resnet", "vit", "tcn"])
def test_grids_and_maps_are_the_same_when_compiled(kind: str) -> None:
    layout = Grid(2, (16,)) if kind == "tcn" else Grid(2, (16, 12))
    encoder = build("encoders", {"kind": kind, "dim": 16}, layout).eval()
    encoder.gives_pyramid = True
    fast = torch.compile(encoder, backend="eager", dynamic=True)
    for steps in (16, 11, 7):
        data = samples.data(layout, 3, steps)
        mask = torch.arange(steps) < torch.tensor([[steps], [3], [1]])
        plain, computed = encoder(data, mask), fast(data, mask)
        assert computed.grid == plain.grid
        assert all(type(n) is int for n in computed.grid)
        assert torch.equal(computed.tokens, plain.tokens)
        assert all(torch.equal(a, b) for a, b in zip(computed.pyramid, plain.pyramid, strict=True))


def test_a_batch_in_which_no_row_has_the_stream_has_empty_maps() -> None:
    layout = Grid(2, (16, 12))
    encoder = build("encoders", "convnet", layout)
    model = Model(
        {"x": encoder}, {"x": build("adapters", "linear", encoder.dim, 8)}, build("fusions", "single", ["x"], 8), {}
    )
    encoder.gives_pyramid = True
    data, present = samples.data(layout, 3, 11), torch.tensor([True, False, True])
    some = model.encode_stream("x", Field(data, present))
    none = model.encode_stream("x", Field(data, present & False))
    assert [level.shape for level in none.pyramid] == [level.shape for level in some.pyramid]
    assert not any(level.any() for level in none.pyramid)
    assert all(level[0].any() and not level[1].any() for level in some.pyramid)
    assert some.grid == (2, 2)


# The strides of torchvision's pyramids of the same networks (C2 to C5 of the papers on detection).
STRIDES = {
    ("resnet", "resnet18"): [4, 8, 16, 32],
    ("resnet", "resnet50"): [4, 8, 16, 32],
    ("vgg", "vgg11"): [2, 4, 8, 16, 32],
    ("mobilenet", "x0.5"): [2, 4, 8, 16, 32],
    ("shufflenet", "x0.5"): [8, 16, 32],
}


@pytest.mark.parametrize(("kind", "variant"), STRIDES)
def test_the_papers_networks_have_the_papers_pyramids(kind: str, variant: str) -> None:
    encoder = build("encoders", {"kind": kind, "variant": variant}, Grid(3, (70, 45))).eval()
    encoder.gives_pyramid = True
    assert [level.stride for level in encoder.levels] == [(n, n) for n in STRIDES[kind, variant]]
    with torch.no_grad():
        computed = encoder(torch.randn(1, 3, 70, 45)).pyramid
    assert [(p.shape[1], tuple(p.shape[2:])) for p in computed] == [(e.channels, e.size((70, 45))) for e in encoder.levels]

"""Picture networks: parameters and shapes against the papers, outputs against transformers and against plain formulas."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.core.registry import build
from sensorium.encoders.mobilenet import Mobilenet, eighths
from sensorium.encoders.resnet import Resnet
from sensorium.encoders.shufflenet import Shufflenet
from sensorium.encoders.vgg import Vgg
from sensorium.encoders.vit import Vit
from sensorium.testing.general import perturbed

torch.set_num_threads(1)

PICTURE = Grid(3, (224, 224))
NETWORKS = ("vgg", "resnet", "mobilenet", "shufflenet", "vit")


def on_paper(spec: dict[str, Any]) -> Encoder:
    """The encoder without memory for its weights."""
    with torch.device("meta"):
        encoder: Encoder = build("encoders", spec, PICTURE)
    return encoder.eval()


def trunk_size(encoder: Encoder) -> int:
    """Its parameters without the way from the last cells to tokens, which no paper has."""
    own = ("tail.", "token.")
    return sum(p.numel() for name, p in encoder.named_parameters() if not name.startswith(own))


def dense(*widths: int) -> int:
    """Parameters of linear layers one after the other."""
    return sum((a + 1) * b for a, b in pairwise(widths))


# The published networks with their classifiers of 1,000 classes: the counts of the papers to the last parameter, as the
# reference implementations have them (in the papers: VGG 133, 133, 138, 144 million; MobileNet v2 3.4, 6.9; ShuffleNet v2
# 1.4, 2.3, 3.5, 7.4; ViT-B and L 86, 307; DeiT-Ti and S 5, 22).
PUBLISHED: list[tuple[str, str, int, int, tuple[int, int]]] = [
    ("vgg", "vgg11", 132_863_336, dense(512 * 49, 4096, 4096, 1000), (512, 49)),
    ("vgg", "vgg13", 133_047_848, dense(512 * 49, 4096, 4096, 1000), (512, 49)),
    ("vgg", "vgg16", 138_357_544, dense(512 * 49, 4096, 4096, 1000), (512, 49)),
    ("vgg", "vgg19", 143_667_240, dense(512 * 49, 4096, 4096, 1000), (512, 49)),
    ("resnet", "resnet18", 11_689_512, dense(512, 1000), (512, 49)),
    ("resnet", "resnet34", 21_797_672, dense(512, 1000), (512, 49)),
    ("resnet", "resnet50", 25_557_032, dense(2048, 1000), (2048, 49)),
    ("resnet", "resnet101", 44_549_160, dense(2048, 1000), (2048, 49)),
    ("mobilenet", "x0.5", 1_968_680, dense(1280, 1000), (1280, 49)),
    ("mobilenet", "x1.0", 3_504_872, dense(1280, 1000), (1280, 49)),
    ("mobilenet", "x1.4", 6_108_776, dense(1792, 1000), (1792, 49)),
    ("shufflenet", "x0.5", 1_366_792, dense(1024, 1000), (1024, 49)),
    ("shufflenet", "x1.0", 2_278_604, dense(1024, 1000), (1024, 49)),
    ("shufflenet", "x1.5", 3_503_624, dense(1024, 1000), (1024, 49)),
    ("shufflenet", "x2.0", 7_393_996, dense(2048, 1000), (2048, 49)),
    ("vit", "tiny", 5_717_416, dense(192, 1000), (192, 196)),
    ("vit", "small", 22_050_664, dense(384, 1000), (384, 196)),
    ("vit", "base", 86_567_656, dense(768, 1000), (768, 196)),
    ("vit", "large", 304_326_632, dense(1024, 1000), (1024, 196)),
]


@pytest.mark.parametrize(("kind", "variant", "published", "classifier", "grid"), PUBLISHED)
def test_the_standard_ones_are_the_papers(
    kind: str, variant: str, published: int, classifier: int, grid: tuple[int, int]
) -> None:
    spec: dict[str, Any] = {"kind": kind, "variant": variant, "dim": 96}
    encoder = on_paper({**spec, "norm": "none"} if kind == "vgg" else spec)
    # The paper adds a place to the class token, which is a parameter already: ours has only the sum of the two.
    twice = grid[0] if kind == "vit" else 0
    assert trunk_size(encoder) == published - classifier - twice
    channels = next(m.in_features for m in encoder.modules() if isinstance(m, nn.Linear) and m.out_features == 96)
    assert channels == grid[0]
    encoded = encoder(torch.empty(2, 3, 224, 224, device="meta"))
    assert encoded.tokens.shape == (2, grid[1], 96)
    assert encoded.pooled.shape == (2, 96)


# ── against transformers ───────────────────────────────────────────────────────────────────────────────────────────


def copied(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """The weights of one network in another with the same layers in the same order."""
    assert [tuple(t.shape) for t in ours] == [tuple(t.shape) for t in theirs]
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            mine.copy_(other)


def tensors(*parts: nn.Module | None) -> list[Tensor]:
    """Weights and statistics of the layers, in the order in which they were made."""
    results = [t for part in parts if part is not None for t in [*part.state_dict().values()]]
    return [t for t in results if t.dtype.is_floating_point]


@pytest.mark.parametrize("variant", ["resnet18", "resnet50"])
def test_resnet_is_transformers(variant: str) -> None:
    from transformers import ResNetConfig, ResNetModel

    narrow = variant == "resnet50"
    widths = [256, 512, 1024, 2048] if narrow else [64, 128, 256, 512]
    depths = [3, 4, 6, 3] if narrow else [2, 2, 2, 2]
    config = ResNetConfig(hidden_sizes=widths, depths=depths, layer_type="bottleneck" if narrow else "basic")
    torch.manual_seed(0)
    theirs = perturbed(ResNetModel(config)).eval()
    ours = Resnet(Grid(3, (64, 64)), variant=variant, dim=8).eval()  # type: ignore[arg-type]
    copied(tensors(ours.stem), tensors(theirs.embedder))
    layers = [layer for stage in theirs.encoder.stages for layer in stage.layers]
    for block, layer in zip(ours.stages, layers, strict=True):
        straight = None if isinstance(layer.shortcut, nn.Identity) else layer.shortcut
        copied(tensors(block.units, block.straight), tensors(layer.layer, straight))
    data = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        x = ours.shrink(ours.stem(data, None)[0])
        for block in ours.stages:
            x, _ = block(x, None)
        expected = theirs(data).last_hidden_state
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("times", [0.5, 0.75, 1.0, 1.4])
def test_mobilenet_has_the_parameters_of_transformers(times: float) -> None:
    from transformers import MobileNetV2Config, MobileNetV2Model

    with torch.device("meta"):
        theirs = MobileNetV2Model(MobileNetV2Config(depth_multiplier=times))
    assert trunk_size(on_paper({"kind": "mobilenet", "variant": f"x{times}"})) == theirs.num_parameters()


def test_mobilenet_is_transformers() -> None:
    from transformers import MobileNetV2Config, MobileNetV2Model

    torch.manual_seed(0)
    config = MobileNetV2Config(depth_multiplier=0.5, tf_padding=False, layer_norm_eps=1e-5, min_depth=8)
    theirs = perturbed(MobileNetV2Model(config)).eval()
    ours = Mobilenet(Grid(3, (64, 64)), variant="x0.5", dim=8).eval()
    # The first of their layers is a part of their stem.
    stem = theirs.conv_stem
    copied(tensors(ours.stem, ours.stages[0]), tensors(stem.first_conv, stem.conv_3x3, stem.reduce_1x1))
    for block, layer in zip(list(ours.stages)[1:], theirs.layer, strict=True):
        copied(tensors(block), tensors(layer.expand_1x1, layer.conv_3x3, layer.reduce_1x1))
    copied(tensors(ours.last), tensors(theirs.conv_1x1))
    data = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        x, _ = ours.stem(data, None)
        for block in ours.stages:
            x, _ = block(x, None)
        expected = theirs(data).last_hidden_state
        torch.testing.assert_close(ours.last(x, None)[0], expected, rtol=1e-4, atol=1e-4)


def from_transformers(ours: Vit, theirs: Any) -> None:
    """The weights of a ``ViTModel``; the place of its class token goes into the token."""
    their_places = theirs.embeddings.position_embeddings[0]
    with torch.no_grad():
        ours.summary.copy_(theirs.embeddings.cls_token[0, 0] + their_places[0])
        ours.place.copy_(their_places[1:].T.reshape(ours.place.shape))
    cut = theirs.embeddings.patch_embeddings.projection
    ours.cut.load_state_dict(cut.state_dict())
    state = theirs.state_dict()
    layers = sorted({name.split(".attention")[0] for name in state if ".attention" in name}, key=lambda n: int(n[-1]))
    for block, name in zip(ours.stack.blocks, layers, strict=True):
        part = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        values = list(part.values())
        shapes = {key: tuple(value.shape) for key, value in part.items()}
        assert len(values) == 16, shapes
        query, key, value, output = [n.removesuffix(".weight") for n in part if "attention" in n and n.endswith("weight")]
        with torch.no_grad():
            for kind in ("weight", "bias"):
                getattr(block.attention.query, kind).copy_(part[f"{query}.{kind}"])
                pair = torch.cat([part[f"{key}.{kind}"], part[f"{value}.{kind}"]])
                getattr(block.attention.key_value, kind).copy_(pair)
                getattr(block.attention.output, kind).copy_(part[f"{output}.{kind}"])
                wide, back = [n for n in part if n.endswith(kind) and "attention" not in n and "norm" not in n]
                getattr(block.mlp.layers[0], kind).copy_(part[wide])
                getattr(block.mlp.layers[3], kind).copy_(part[back])
                getattr(block.norm_attention, kind).copy_(part[f"layernorm_before.{kind}"])
                getattr(block.norm_mlp, kind).copy_(part[f"layernorm_after.{kind}"])
    ours.stack.norm.load_state_dict(theirs.layernorm.state_dict())


def test_vit_is_transformers_at_its_own_size_and_at_another() -> None:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=32,
        patch_size=8,
        layer_norm_eps=1e-5,
    )
    theirs = perturbed(ViTModel(config, add_pooling_layer=False)).eval()
    ours = Vit(Grid(3, (32, 32)), dim=32, depth=2, heads=4, patch=8, stem="linear").eval()
    from_transformers(ours, theirs)
    data = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        encoded, expected = ours(data), theirs(data).last_hidden_state
        torch.testing.assert_close(encoded.pooled, expected[:, 0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(encoded.tokens, expected[:, 1:], rtol=1e-4, atol=1e-4)
        larger = Vit(Grid(3, (48, 40)), dim=32, depth=2, heads=4, patch=8, stem="linear").eval()
        larger.load_state_dict(ours.state_dict())
        data = torch.randn(2, 3, 48, 40)
        expected = theirs(data, interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(larger(data).pooled, expected[:, 0], rtol=1e-4, atol=1e-4)


# ── against the papers' words ──────────────────────────────────────────────────────────────────────────────────────


def test_vgg_is_convolutions_and_halvings() -> None:
    """Table 1 of the paper, column A, written out."""
    torch.manual_seed(0)
    plan = [64, "half", 128, "half", 256, 256, "half", 512, 512, "half", 512, 512, "half"]
    layers: list[nn.Module] = []
    channels = 3
    for step in plan:
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU()]
            channels = step
    theirs = nn.Sequential(*layers)
    ours = Vgg(Grid(3, (32, 32)), variant="vgg11", norm="none", dim=8).eval()
    copied(tensors(ours.stages), tensors(theirs))
    x = data = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for stage in ours.stages:
            x, _ = stage(x, None)
        torch.testing.assert_close(x, theirs(data), rtol=1e-4, atol=1e-5)


def test_a_shuffle_deals_the_channels_of_both_halves_in_turn() -> None:
    """Figure 3 c of the paper in double precision: half passes by; reshape to [2, C/2], transpose, flatten."""
    torch.manual_seed(0)
    encoder = perturbed(Shufflenet(Grid(3, (8, 8)), depth=1, width=4, dim=8)).double().eval()
    block: Any = encoder.stages[1]
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    y = x[:, 4:]
    for i, unit in enumerate(block.right):
        y = F.conv2d(y, unit.conv.weight, padding=unit.conv.weight.shape[-1] // 2, groups=4 if i == 1 else 1)
        norm = unit.norm.norm
        y = (y - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
        y = y * norm.weight[:, None, None] + norm.bias[:, None, None]
        y = y if i == 1 else y.clamp(min=0)
    whole = torch.cat([x[:, :4], y], dim=1)
    expected = whole.reshape(2, 2, 4, 5, 5).transpose(1, 2).reshape(2, 8, 5, 5)
    mixed, _ = block(x, None)
    torch.testing.assert_close(mixed, expected)


@pytest.mark.parametrize(
    ("requested", "inputs"), [(16, 16), (12, 16), (18, 24), (22.4, 24), (44.8, 48), (4, 8), (448, 448)]
)
def test_channels_are_multiples_of_eight_and_never_a_tenth_too_few(requested: float, inputs: int) -> None:
    assert eighths(requested) == inputs
    assert inputs >= 0.9 * requested


# ── what the contract asks for beyond the common checks ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (28, 28), (31, 17)])
def test_any_size_of_picture_goes_through_in_training(kind: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    encoder: Encoder = build("encoders", {"kind": kind, "dim": 16, "width": 4} if kind != "vit" else kind, Grid(1, size))
    encoded = encoder(torch.randn(1, 1, *size))
    assert encoded.pooled.isfinite().all()
    encoded.pooled.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", NETWORKS)
def test_standard_ones_obey_the_mask_too(kind: str) -> None:
    """Pooling with overlap and steps in the trunk: what stands past the end of a spectrogram stays outside."""
    variants = {"vgg": "vgg11", "resnet": "resnet18", "mobilenet": "x0.5", "shufflenet": "x0.5", "vit": "tiny"}
    torch.manual_seed(0)
    encoder = build("encoders", {"kind": kind, "variant": variants[kind], "dim": 8}, Grid(1, (96, 32)))
    encoder = perturbed(encoder).eval()
    short = torch.randn(1, 1, 70, 32)
    padded = torch.cat([short, torch.full((1, 1, 26, 32), 5.0)], dim=2)
    with torch.no_grad():
        alone, inside = encoder(short), encoder(padded, torch.arange(96)[None] < 70)
    torch.testing.assert_close(inside.pooled, alone.pooled, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(inside.tokens[inside.mask], alone.tokens[alone.mask], rtol=1e-3, atol=1e-3)


def test_places_past_the_longest_are_the_last_one() -> None:
    encoder = Vit(Grid(1, (4, 4)), dim=8, heads=2, patch=2, stem="linear")
    data = torch.randn(1, 1, 8, 4)
    tokens, _ = encoder.embed(data, None)
    bare = encoder.cut(data).flatten(2).transpose(1, 2)
    last = encoder.place[:, 1, :].T
    torch.testing.assert_close((tokens - bare)[0, 4:6], last)
    torch.testing.assert_close((tokens - bare)[0, 6:8], last)


def test_options_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="even width"):
        build("encoders", {"kind": "shufflenet", "width": 5}, PICTURE)
    with pytest.raises(ConfigError, match="expand"):
        build("encoders", {"kind": "mobilenet", "expand": 0}, PICTURE)
    with pytest.raises(ConfigError, match="variant"):
        build("encoders", {"kind": "resnet", "variant": "resnet17"}, PICTURE)
    for kind in NETWORKS:
        with pytest.raises(ConfigError, match="depth"):
            build("encoders", {"kind": kind, "depth": 0}, PICTURE)

"""Picture networks beside those of transformers with the same layers: a pass, and one with its gradients, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from benchmarks.measure import Results, Settings, Skipped, compared, cost, interleaved


class Pair(NamedTuple):
    """Ours and theirs, and the side of the pictures in pixels."""

    name: str
    ours: Any
    theirs: Any
    side: int


def run(settings: Settings) -> Results:
    if find_spec("transformers") is None:
        return [Skipped("image encoders", "transformers is not installed")]
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [line for pair in pairs(settings) for line in measured(pair, settings)]
    finally:
        torch.set_num_threads(threads)


def pairs(settings: Settings) -> list[Pair]:
    """The standard networks at a third of their usual side, so that a round takes a second and not ten."""
    from transformers import (
        MobileNetV2Config,
        MobileNetV2Model,
        ResNetConfig,
        ResNetModel,
        ViTConfig,
        ViTModel,
    )

    from sensorium.core.layout import Grid
    from sensorium.core.registry import build

    side = settings.few(96, 32)
    grid = Grid(3, (side, side))
    residual = ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    mobile = MobileNetV2Config(tf_padding=False)
    vision = ViTConfig(
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=side,
        patch_size=16,
    )

    def ours(kind: str, variant: str, dim: int) -> Any:
        return build("encoders", {"kind": kind, "variant": variant, "dim": dim, "dropout": 0.0}, grid)

    return [
        Pair("ResNet-18", ours("resnet", "resnet18", 512), ResNetModel(residual), side),
        Pair("MobileNet v2", ours("mobilenet", "x1.0", 512), MobileNetV2Model(mobile), side),
        Pair("ViT-Ti/16", ours("vit", "tiny", 192), ViTModel(vision, add_pooling_layer=False), side),
    ]


def measured(pair: Pair, settings: Settings) -> Results:
    """Processor time of some passes over one batch, forward only and with gradients."""
    import torch

    torch.manual_seed(0)
    data = torch.randn(settings.few(8, 2), 3, pair.side, pair.side)
    passes = settings.few(3, 1)

    def forward(model: Any) -> Callable[[], None]:
        def work() -> None:
            with torch.inference_mode():
                for _ in range(passes):
                    model(data)

        return work

    def both(model: Any) -> Callable[[], None]:
        def work() -> None:
            for _ in range(passes):
                model.zero_grad(set_to_none=True)
                out = model(data)
                last = out.pooled if hasattr(out, "pooled") else out.last_hidden_state
                last.float().square().mean().backward()

        return work

    results: Results = []
    for what, work in (("forward", forward), ("forward and backward", both)):
        for model in (pair.ours, pair.theirs):
            model.train(work is both)
            work(model)()  # the first pass makes room and picks algorithms
        mine, other = interleaved(
            lambda work=work: cost(work(pair.ours)),  # type: ignore[misc]
            lambda work=work: cost(work(pair.theirs)),  # type: ignore[misc]
            settings.few(7, 1),
        )
        scale = 1000 / (passes * len(data))
        results.append(
            compared(
                f"{pair.name}, {what}",
                "CPU ms a picture",
                [scale * c.cpu for c in mine],
                [scale * c.cpu for c in other],
                at_most=1.1,
            )
        )
    return results

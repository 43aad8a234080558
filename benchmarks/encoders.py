"""CPU time of encoders, compared with the best library implementation of the same layers: forward, and forward and
backward, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from benchmarks.measure import Results, Settings, Skipped, compared, cost, interleaved


class Pair(NamedTuple):
    """Two modules of the same size and their forward functions; the loss is the mean square of the output."""

    name: str
    ours: Any
    theirs: Any
    run_ours: Callable[[Any], Any]
    run_theirs: Callable[[Any], Any]
    rows: int


def run(settings: Settings) -> Results:
    if find_spec("transformers") is None:
        return [Skipped("encoders", "transformers is not installed")]
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = [*pictures(settings), words(settings), spectrograms(settings), recurrences(settings)]
        return [line for pair in pairs for line in measured(pair, settings)]
    finally:
        torch.set_num_threads(threads)


def pictures(settings: Settings) -> list[Pair]:
    """Return the standard vision networks, on images of 96 pixels a side, so that a round takes about a second."""
    import torch
    from transformers import MobileNetV2Config, MobileNetV2Model, ResNetConfig, ResNetModel, ViTConfig, ViTModel

    from sensorium.core.layout import Grid
    from sensorium.core.registry import build

    side, rows = settings.few(96, 32), settings.few(8, 2)
    data = torch.randn(rows, 3, side, side)
    residual = ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    mobile = MobileNetV2Config(tf_padding=False)
    heads = {"num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
    vision = ViTConfig(hidden_size=192, image_size=side, patch_size=16, **heads)

    def pair(name: str, kind: str, variant: str, dim: int, theirs: Any) -> Pair:
        ours = build("encoders", {"kind": kind, "variant": variant, "dim": dim, "dropout": 0.0}, Grid(3, (side, side)))
        return Pair(name, ours, theirs, lambda m: m(data).pooled, lambda m: m(data).last_hidden_state, rows)

    return [
        pair("ResNet-18", "resnet", "resnet18", 512, ResNetModel(residual)),
        pair("MobileNet v2", "mobilenet", "x1.0", 512, MobileNetV2Model(mobile)),
        pair("ViT-Ti/16", "vit", "tiny", 192, ViTModel(vision, add_pooling_layer=False)),
    ]


def words(settings: Settings) -> Pair:
    """Return the transformer over words and BERT of the same width, depth and heads; a third of the batch is padding."""
    import torch
    from transformers import BertConfig, BertModel

    from sensorium.core.layout import Ids
    from sensorium.core.registry import build

    rows, length, dim = settings.few(16, 2), settings.few(128, 16), settings.few(256, 32)
    ids, mask = torch.randint(1, 1000, (rows, length)), torch.ones(rows, length, dtype=torch.bool)
    mask[:, 2 * length // 3 :] = False
    spec = {"kind": "transformer", "dim": dim, "depth": 4, "heads": 4, "dropout": 0.0}
    size = {"hidden_size": dim, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 4 * dim}
    config = BertConfig(vocab_size=1000, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **size)
    return Pair(
        "transformer over words, BERT",
        build("encoders", spec, Ids(1000, length)),
        BertModel(config, add_pooling_layer=False),
        lambda m: m(ids * mask, mask).tokens,
        lambda m: m(input_ids=ids, attention_mask=mask.long()).last_hidden_state,
        rows,
    )


def spectrograms(settings: Settings) -> Pair:
    """Return the patch transformer over about a second of sound and AST of the same patches, width, depth and heads."""
    import torch
    from transformers import ASTConfig, ASTModel

    from sensorium.core.layout import Grid
    from sensorium.core.registry import build

    rows, steps, bands, dim = settings.few(16, 2), settings.few(96, 32), 64, settings.few(192, 32)
    data = torch.randn(rows, 1, steps, bands)
    spec = {"kind": "patch", "patch": 16, "dim": dim, "depth": 4, "heads": 4, "dropout": 0.0}
    size = {"hidden_size": dim, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 4 * dim}
    config = ASTConfig(patch_size=16, frequency_stride=16, time_stride=16, max_length=steps, num_mel_bins=bands, **size)
    return Pair(
        "patch over spectrograms, AST",
        build("encoders", spec, Grid(1, (steps, bands))),
        ASTModel(config),
        lambda m: m(data).tokens,
        lambda m: m(input_values=data[:, 0]).last_hidden_state,
        rows,
    )


def recurrences(settings: Settings) -> Pair:
    """Return the recurrent encoder and torch's LSTM over packed sequences of the same lengths."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence

    from sensorium.core.layout import Grid
    from sensorium.core.registry import build

    rows, steps, dim = settings.few(32, 2), settings.few(100, 12), settings.few(128, 16)
    data, lengths = torch.randn(rows, dim, steps), torch.linspace(steps // 2, steps, rows).long()
    mask = torch.arange(steps) < lengths[:, None]
    spec = {"kind": "recurrent", "dim": dim, "depth": 1, "cell": "lstm", "dropout": 0.0}

    class Packed(nn.Module):
        """Projection, then a packed bidirectional LSTM; our encoder uses masks instead."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(dim, dim)
            self.rnn = nn.LSTM(dim, dim // 2, bidirectional=True, batch_first=True)

        def forward(self, steps: torch.Tensor) -> torch.Tensor:
            packed = pack_padded_sequence(self.first(steps), lengths, batch_first=True, enforce_sorted=False)
            return self.rnn(packed)[0].data

    return Pair(
        "recurrent, torch's packed LSTM",
        build("encoders", spec, Grid(dim, (steps,))),
        Packed(),
        lambda m: m(data, mask).tokens,
        lambda m: m(data.transpose(1, 2)),
        rows,
    )


def measured(pair: Pair, settings: Settings) -> Results:
    """Compare the CPU time per row of passes over one batch, forward only and with gradients."""
    import torch

    passes = settings.few(3, 1)

    def forward(model: Any, go: Callable[[Any], Any]) -> Callable[[], None]:
        def work() -> None:
            with torch.inference_mode():
                for _ in range(passes):
                    go(model)

        return work

    def both(model: Any, go: Callable[[Any], Any]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(passes):
                model.zero_grad(set_to_none=True)
                go(model).float().square().mean().backward()

        return work

    results: Results = []
    for what, work in (("forward", forward), ("forward and backward", both)):
        ours, theirs = work(pair.ours, pair.run_ours), work(pair.theirs, pair.run_theirs)
        for model, once in ((pair.ours, ours), (pair.theirs, theirs)):
            model.train(work is both)
            once()  # the first pass allocates memory and selects algorithms
        mine, other = interleaved(
            lambda ours=ours: cost(ours),  # type: ignore[misc]
            lambda theirs=theirs: cost(theirs),  # type: ignore[misc]
            settings.few(7, 1),
        )
        scale = 1000 / (passes * pair.rows)
        results.append(
            compared(
                f"{pair.name}, {what}",
                "CPU ms a row",
                [scale * c.cpu for c in mine],
                [scale * c.cpu for c in other],
                at_most=1.1,
            )
        )
    return results

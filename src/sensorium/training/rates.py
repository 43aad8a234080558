"""Which weights learn at which share of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from sensorium.core import registry
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.recipe import Spec, Training
from sensorium.model import Model
from sensorium.nn.depth import depths

PRETRAINED, LOW_RANK = 5e-5, 5e-4
"""The rate of an encoder that was trained before, and of low-rank updates beside it; what is new learns faster."""


def shares(model: Model, training: Training) -> dict[int, float]:
    """The share of the learning rate, by ``id`` of the parameter, where it is not 1.

    With a layer decay of d, block i of L learns at d^(L − i), what comes before the first block at d^L.
    Source: Universal Language Model Fine-tuning, https://arxiv.org/abs/1801.06146, § 3.2, in the form of
    ELECTRA, https://arxiv.org/abs/2003.10555, appendix B.
    """
    found: dict[int, float] = {}
    for stream in {*training.lr_scale, *training.layer_decay}:
        encoder = model.encoders[stream]
        depth, count = depths(encoder)
        scale, decay = training.lr_scale.get(stream, 1.0), training.layer_decay.get(stream, 1.0)
        for name, parameter in encoder.named_parameters():
            found[id(parameter)] = scale * decay ** max(0, count - depth[name])
    if training.fusion_lr_scale is not None and model.fusion.adopted:
        for name, parameter in model.fusion.named_parameters():
            if name.startswith(model.fusion.adopted):
                found[id(parameter)] = training.fusion_lr_scale
    return found


def groups(parameters: Iterable[nn.Parameter], share: Mapping[int, float], training: Training) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser. Biases, norms and other vectors only lose by being pulled to zero."""
    lr = training.lr or 1e-3
    found: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for parameter in parameters:
        if parameter.requires_grad:
            found.setdefault((share.get(id(parameter), 1.0), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": held, "lr": lr * part, "weight_decay": training.weight_decay if matrix else 0.0}
        for (part, matrix), held in found.items()
    ]


def settled(
    training: Training, lr: float, encoders: Mapping[str, Spec], fusion: Spec, surgery: Iterable[Spec]
) -> tuple[dict[str, Any], list[str]]:
    """The shares of the rate with pretrained parts slowed down where nothing was said; and that in words."""
    for key, given in (("lr_scale", training.lr_scale), ("layer_decay", training.layer_decay)):
        for stream, value in given.items():
            if stream not in encoders:
                raise ConfigError(f"training.{key}: no stream named {stream!r}{nearest(stream, encoders)}")
            if not 0 < value <= (1 if key == "layer_decay" else 1000):
                raise ConfigError(f"training.{key}.{stream}: {value} is not a share of the learning rate")
    scale, said = dict(training.lr_scale), []
    low: set[str] = set()
    for spec in surgery:
        kind, options = registry.split(spec)
        if kind == "lora":
            low |= set(encoders if options.get("streams") is None else options["streams"])
    for stream, spec in encoders.items():
        if stream not in scale and registry.split(spec)[1].get("checkpoint") is not None:
            wanted = LOW_RANK if stream in low else PRETRAINED
            if wanted < lr:
                scale[stream] = float(f"{wanted / lr:.3g}")
                said.append(f"{stream}: its pretrained encoder learns at a rate of {wanted:g}, the rest at {lr:g}")
    slow = training.fusion_lr_scale
    if slow is None and registry.split(fusion)[1].get("checkpoint") is not None and lr > PRETRAINED:
        slow = float(f"{PRETRAINED / lr:.3g}")
        said.append(f"fusion: its pretrained layers learn at a rate of {PRETRAINED:g}")
    return {"lr_scale": scale, "layer_decay": dict(training.layer_decay), "fusion_lr_scale": slow}, said

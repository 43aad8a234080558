"""The optimiser, and which weights learn at which share of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core import registry
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.recipe import Spec, Training
from sensorium.model import Model
from sensorium.nn.layer_depth import depths

DEFAULT_LR = {"adamw": 1.5e-3, "sgd": 0.05}
"""The peak learning rate by optimiser, where it is left open. Each step of AdamW is about as long as the rate, whatever the
gradient; one of SGD is the gradient, whose norm is clipped, times the rate."""
MOMENTUM = 0.9
PRETRAINED, LOW_RANK = 5e-5, 5e-4
"""The rate of an encoder that was trained before, and of low-rank updates beside it; what is new learns faster.
In terms of AdamW; of another optimiser they are the same shares of its usual rate."""


def optimiser(parameters: Iterable[nn.Parameter], share: Mapping[int, float], training: Training) -> torch.optim.Optimizer:
    """The optimiser of a recipe, over groups with rates of their own."""
    parts = parameter_groups(parameters, share, training)
    made: torch.optim.Optimizer
    if training.optimizer == "sgd":
        made = torch.optim.SGD(parts, momentum=MOMENTUM, nesterov=True)
    else:
        # One pass over each tensor: several times faster. Lightning cannot unscale gradients of 16-mixed for it.
        made = torch.optim.AdamW(parts, fused=training.precision != "16-mixed")
    if training.l1 > 0:
        made.register_step_post_hook(lambda stepped, *_: _shrink(stepped, training.l1))
    return made


@torch.no_grad()
def _shrink(stepped: torch.optim.Optimizer, l1: float) -> None:
    """The proximal step of an L1 penalty on matrices: what would pass zero becomes zero.

    Source: Iterative soft thresholding, Daubechies et al., https://doi.org/10.1002/cpa.20042.
    """
    for group in stepped.param_groups:
        for parameter in group["params"]:
            if parameter.ndim > 1 and parameter.grad is not None:
                # Of weights that are parted among processes each shrinks its own.
                local: Tensor = parameter.to_local() if hasattr(parameter, "to_local") else parameter
                local.copy_(F.softshrink(local, float(group["lr"]) * l1))


def rate_shares(model: Model, training: Training) -> dict[int, float]:
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


def parameter_groups(
    parameters: Iterable[nn.Parameter], share: Mapping[int, float], training: Training
) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser. Biases, norms and other vectors only lose by being pulled to zero."""
    lr = training.lr or 1e-3
    decay = training.weight_decay
    if training.optimizer == "sgd":
        # Decay in the gradient is scaled by the rate, and by momentum again: so it is as strong a step as beside AdamW.
        decay *= (1 - MOMENTUM) * DEFAULT_LR["adamw"] / DEFAULT_LR["sgd"]
    found: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for parameter in parameters:
        if parameter.requires_grad:
            found.setdefault((share.get(id(parameter), 1.0), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": held, "lr": lr * part, "weight_decay": decay if matrix else 0.0}
        for (part, matrix), held in found.items()
    ]


def resolve_rates(
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
    like = DEFAULT_LR[training.optimizer] / DEFAULT_LR["adamw"]
    low: set[str] = set()
    for spec in surgery:
        kind, options = registry.split(spec)
        if kind == "lora":
            low |= set(encoders if options.get("streams") is None else options["streams"])
    for stream, spec in encoders.items():
        if stream not in scale and registry.split(spec)[1].get("checkpoint") is not None:
            wanted = like * (LOW_RANK if stream in low else PRETRAINED)
            if wanted < lr:
                scale[stream] = float(f"{wanted / lr:.3g}")
                said.append(f"{stream}: its pretrained encoder learns at a rate of {wanted:g}, the rest at {lr:g}")
    slow = training.fusion_lr_scale
    if slow is None and registry.split(fusion)[1].get("checkpoint") is not None and lr > like * PRETRAINED:
        slow = float(f"{like * PRETRAINED / lr:.3g}")
        said.append(f"fusion: its pretrained layers learn at a rate of {like * PRETRAINED:g}")
    return {"lr_scale": scale, "layer_decay": dict(training.layer_decay), "fusion_lr_scale": slow}, said

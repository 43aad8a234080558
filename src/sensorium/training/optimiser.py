"""The optimiser, and learning rates by parameter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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
"""Default peak learning rate by optimiser. A step of AdamW is about as long as the rate, whatever the gradient; a step of
SGD is the clipped gradient times the rate.
"""
MOMENTUM = 0.9
PRETRAINED, LOW_RANK = 5e-5, 5e-4
"""Learning rates of pretrained encoders and of low-rank updates; new layers learn faster. Given for AdamW; other optimisers
use the same share of their default rate.
"""


def optimiser(
    parameters: Iterable[nn.Parameter],
    share: Mapping[int, float],
    training: Training,
    betas: Mapping[int, tuple[float, float]] | None = None,
) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe.

    Args:
        parameters: The parameters; frozen ones are left out.
        share: Share of the learning rate, by ``id`` of the parameter, where it is not 1.
        training: The section ``training`` of the resolved recipe.
        betas: Decay rates of AdamW's moments, by ``id`` of the parameter, where they are not the usual ones.
    """
    parts = parameter_groups(parameters, share, training, betas or {})
    made: torch.optim.Optimizer
    if training.optimizer == "sgd":
        made = torch.optim.SGD(parts, momentum=MOMENTUM, nesterov=True)
    else:
        # Fused is several times faster, but Lightning cannot unscale the gradients of 16-mixed for it.
        made = torch.optim.AdamW(parts, fused=training.precision != "16-mixed")
    if training.l1 > 0:
        made.register_step_post_hook(lambda stepped, *_: _shrink(stepped, training.l1))
    return made


@torch.no_grad()
def _shrink(stepped: torch.optim.Optimizer, l1: float) -> None:
    """Apply the proximal step of an L1 penalty to matrices (soft thresholding).

    Source: Iterative soft thresholding, Daubechies et al., https://doi.org/10.1002/cpa.20042.
    """
    for group in stepped.param_groups:
        for parameter in group["params"]:
            if parameter.ndim > 1 and parameter.grad is not None:
                # Of sharded weights, each process shrinks its own part.
                local: Tensor = parameter.to_local() if hasattr(parameter, "to_local") else parameter
                local.copy_(F.softshrink(local, float(group["lr"]) * l1))


def turn_betas(model: Model) -> dict[int, tuple[float, float]]:
    """Return the decay rates of AdamW's moments that tasks of ``model`` set for alternately trained parameters, by
    ``id``."""
    turns = [turn for task in model.tasks.values() for turn in task.plain.turns]
    return {id(parameter): turn.betas for turn in turns for parameter in turn.parameters}


def rate_shares(model: Model, training: Training) -> dict[int, float]:
    """Return the share of the learning rate of the parameters of ``model``, by ``id``, where it is not 1.

    With a layer decay of d in ``training``, block i of L learns at d^(L − i), layers before the first block at d^L.
    Source: Universal Language Model Fine-tuning, https://arxiv.org/abs/1801.06146, § 3.2, in the form of
    ELECTRA, https://arxiv.org/abs/2003.10555, appendix B.
    """
    share: dict[int, float] = {}
    like, lr = DEFAULT_LR[training.optimizer] / DEFAULT_LR["adamw"], training.lr or 1e-3
    for name, task in model.tasks.items():
        slow = training.lr_scale.get(name, min(1.0, like * PRETRAINED / lr))
        share.update({id(parameter): slow for parameter in task.pretrained})
    for stream in {*training.lr_scale, *training.layer_decay} & set(model.encoders):
        encoder = model.encoders[stream]
        depth, count = depths(encoder)
        scale, decay = training.lr_scale.get(stream, 1.0), training.layer_decay.get(stream, 1.0)
        for name, parameter in encoder.named_parameters():
            share[id(parameter)] = scale * decay ** max(0, count - depth[name])
    if training.fusion_lr_scale is not None and model.fusion.adopted:
        for name, parameter in model.fusion.named_parameters():
            if name.startswith(model.fusion.adopted):
                share[id(parameter)] = training.fusion_lr_scale
    for task in model.tasks.values():
        for turn in task.plain.turns:
            share |= {id(parameter): turn.rate for parameter in turn.parameters}
    return share


def parameter_groups(
    parameters: Iterable[nn.Parameter],
    share: Mapping[int, float],
    training: Training,
    betas: Mapping[int, tuple[float, float]] | None = None,
) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimiser; biases, norms and other vectors get no weight decay.

    Args:
        parameters: The parameters; frozen ones are left out.
        share: Share of the learning rate, by ``id`` of the parameter, where it is not 1.
        training: The section ``training`` of the resolved recipe.
        betas: Decay rates of AdamW's moments, by ``id`` of the parameter, where they are not the usual ones.
    """
    usual, betas = (0.9, 0.999), betas or {}
    lr = training.lr or 1e-3
    decay = training.weight_decay
    if training.optimizer == "sgd":
        # SGD scales decay by the rate and by momentum: corrected to be as strong as with AdamW.
        decay *= (1 - MOMENTUM) * DEFAULT_LR["adamw"] / DEFAULT_LR["sgd"]
    groups: dict[tuple[float, bool, tuple[float, float]], list[nn.Parameter]]
    groups = {(1.0, True, usual): [], (1.0, False, usual): []}
    for parameter in parameters:
        if parameter.requires_grad:
            key = share.get(id(parameter), 1.0), parameter.ndim > 1, betas.get(id(parameter), usual)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": held, "lr": lr * part, "weight_decay": decay if matrix else 0.0}
        # SGD has no moments to decay.
        | ({} if moments == usual or training.optimizer == "sgd" else {"betas": moments})
        for (part, matrix, moments), held in groups.items()
    ]


def resolve_rates(
    training: Training,
    lr: float,
    encoders: Mapping[str, Spec],
    fusion: Spec,
    surgery: Iterable[Spec],
    tasks: Collection[str] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Return learning rate shares with pretrained parts slowed down where nothing was set, and notes on it.

    Args:
        training: The section ``training`` of the recipe.
        lr: The peak learning rate.
        encoders: The encoder of each stream.
        fusion: The fusion.
        surgery: The model surgery, for its low-rank updates.
        tasks: Names of the tasks, whose pretrained weights may have a share too.
    """
    for key, by_stream in (("lr_scale", training.lr_scale), ("layer_decay", training.layer_decay)):
        for stream, value in by_stream.items():
            if stream not in encoders and (key == "layer_decay" or stream not in tasks):
                raise ConfigError(f"training.{key}: no stream named {stream!r}{nearest(stream, encoders)}")
            if not 0 < value <= (1 if key == "layer_decay" else 1000):
                raise ConfigError(f"training.{key}.{stream}: {value} is not a valid share of the learning rate")
    scale, notes = dict(training.lr_scale), []
    like = DEFAULT_LR[training.optimizer] / DEFAULT_LR["adamw"]
    low: set[str] = set()
    for spec in surgery:
        kind, options = registry.split(spec)
        if kind == "lora":
            low |= set(encoders if options.get("streams") is None else options["streams"])
    for stream, spec in encoders.items():
        if stream not in scale and registry.split(spec)[1].get("checkpoint") is not None:
            pretrained_lr = like * (LOW_RANK if stream in low else PRETRAINED)
            if pretrained_lr < lr:
                scale[stream] = float(f"{pretrained_lr / lr:.3g}")
                notes.append(f"{stream}: its pretrained encoder learns at a rate of {pretrained_lr:g}, the rest at {lr:g}")
    slow = training.fusion_lr_scale
    if slow is None and registry.split(fusion)[1].get("checkpoint") is not None and lr > like * PRETRAINED:
        slow = float(f"{like * PRETRAINED / lr:.3g}")
        notes.append(f"fusion: its pretrained layers learn at a rate of {like * PRETRAINED:g}")
    return {"lr_scale": scale, "layer_decay": dict(training.layer_decay), "fusion_lr_scale": slow}, notes

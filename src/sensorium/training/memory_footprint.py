"""Memory of a training step, counted in tensors, so that it is the same on every machine."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from sensorium.core import registry
from sensorium.core.forward import Forward
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import Rows
from sensorium.model import Model

COPIES = {"adamw": 4, "sgd": 3}
"""Copies of each weight: itself, its gradient, and the moments (two of AdamW, one of SGD)."""


def training_bytes(model: Model, plan: Recipe, schema: Schema, rows: Rows) -> int:
    """Return the bytes of weights, gradients and moments, and of the activations that one batch keeps for the backward
       pass.

    The data and Python are not counted.

    Args:
        model: The model; a copy is run.
        plan: The resolved recipe.
        schema: The fitted columns.
        rows: Encoded training rows.
    """
    twin = copy.deepcopy(model).cpu().train()
    weights = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in twin.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor.untyped_storage().nbytes()
        return tensor

    size = min(plan.training.batch_size or 32, len(rows))
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        torch.manual_seed(0)
        run = Forward(twin, schema.prepare(rows.batch(np.arange(size, dtype=np.int64))))
        terms: dict[str, Tensor] = {}
        for spec in plan.objectives:
            terms |= registry.build("objectives", spec, twin)(run)
    return COPIES[plan.training.optimizer] * sum(weights.values()) + sum(kept.values())

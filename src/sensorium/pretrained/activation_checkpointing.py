"""Gradient checkpointing of networks of transformers: activations are computed again in the backward pass."""

from __future__ import annotations

from typing import Any

from torch import nn


def enable_checkpointing(network: nn.Module) -> bool:
    """Have the blocks of ``network`` recompute their activations in training; return whether it has such blocks.

    Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
    """
    plain: Any = network
    if not getattr(network, "supports_gradient_checkpointing", False):
        return False
    plain.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return bool(_blocks(network))


def set_training(network: nn.Module, training: bool) -> None:
    """Set whether blocks of ``network`` that recompute activations do so now, without switching on dropout.

    Args:
        network: A network in evaluation mode.
        training: False in generation: a block that recomputes does not fill the cache of keys and values.
    """
    for block in _blocks(network):
        block.training = training  # of the block alone: what lies in it stays in evaluation mode


def _blocks(network: nn.Module) -> list[nn.Module]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [
        module
        for module in network.modules()
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
    ]

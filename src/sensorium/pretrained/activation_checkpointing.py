"""Gradient checkpointing of networks of transformers: activations are recomputed in the backward pass."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def enable_checkpointing(network: nn.Module) -> bool:
    """Have the blocks of ``network`` recompute their activations in training; return whether it has such blocks.

    Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
    """
    blocks = _blocks(network) if getattr(network, "supports_gradient_checkpointing", False) else []
    for block in blocks:
        # Set as by transformers' own switch, which would also make frozen embeddings require gradients.
        block.gradient_checkpointing = True  # type: ignore[assignment]
        block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)  # type: ignore[assignment]
    return bool(blocks)


def set_training(network: nn.Module, training: bool) -> None:
    """Set whether blocks of ``network`` that recompute activations do so now, without switching on dropout.

    Args:
        network: A network in evaluation mode.
        training: False in generation: a block that recomputes does not fill the cache of keys and values.
    """
    for block in _blocks(network):
        # Of the block alone: its submodules stay in evaluation mode.
        block.training = training and bool(block.gradient_checkpointing)


def _blocks(network: nn.Module) -> list[nn.Module]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]

"""Low-rank adaptation (LoRA) of frozen layers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Lora(nn.Module):
    """Low-rank update of a linear layer or convolution: up(down(x)) · alpha / rank, zero at initialisation.

    Registered on the layer as ``lora``, so that the layer's own parameters keep their names. Of a convolution, the first
    factor has its kernel size and the second size 1. Source: https://arxiv.org/abs/2106.09685, § 4.1.
    """

    def __init__(self, layer: nn.Module, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.drop = nn.Dropout(dropout)
        self.down: nn.Module
        self.up: nn.Module
        self.transposed = transposed(layer)
        if isinstance(layer, nn.Linear) or self.transposed:
            outputs, inputs = layer.get_parameter("weight").shape[:: -1 if self.transposed else 1]
            self.down = nn.Linear(inputs, rank, bias=False)
            self.up = nn.Linear(rank, outputs, bias=False)
        else:
            conv: Any = layer
            same = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
            self.down = type(conv)(conv.in_channels, rank, conv.kernel_size, bias=False, **same)
            self.up = type(conv)(rank, conv.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))  # type: ignore[arg-type]
        nn.init.zeros_(self.up.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        gained: Tensor = self.up(self.down(self.drop(x))) * self.scale
        return gained

    def update(self) -> Tensor:
        """Return the equivalent change of the layer's weight, in its shape."""
        down, up = self.down.get_parameter("weight"), self.up.get_parameter("weight")
        change = up.flatten(1) @ down.flatten(1) * self.scale
        return change.T if self.transposed else change.reshape(up.shape[0], *down.shape[1:])


def _added(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    own: torch.dtype = layer.lora.down.weight.dtype  # type: ignore[union-attr,assignment]
    x: Tensor = inputs[0]
    if x.dtype != own and not torch.is_autocast_enabled(x.device.type):
        x = x.to(own)  # the update of a layer in bfloat16 is learnt in single precision
    lora: Tensor = layer.lora(x)  # type: ignore[operator]
    return output + lora.to(output.dtype)


def transposed(layer: nn.Module) -> bool:
    """Whether ``layer`` is a linear layer of GPT-2, whose weight is ``[inputs, outputs]``."""
    kind = type(layer)
    return kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"


def takes(layer: nn.Module) -> bool:
    """Whether ``layer`` can be adapted. Only the exact types can: subclasses may bypass ``forward``."""
    if type(layer) is nn.Linear or transposed(layer):
        return True
    conv: Any = layer
    return type(layer) in CONVOLUTIONS and conv.groups == 1 and conv.padding_mode == "zeros"


def attach(layer: nn.Module, rank: int, alpha: float, dropout: float) -> None:
    """Add a low-rank update to a layer and freeze its own parameters.

    Args:
        layer: A layer that ``takes`` accepts.
        rank: Rank of the update.
        alpha: Its scale, divided by ``rank``.
        dropout: Dropout of its input.
    """
    if "lora" in layer._modules:
        raise ValueError("this layer already has a low-rank update")
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    device = next(layer.parameters()).device
    layer.add_module("lora", Lora(layer, rank, alpha, dropout).to(device))
    layer.register_forward_hook(_added)


@torch.no_grad()
def merge(module: nn.Module) -> int:
    """Merge every low-rank update of ``module`` into its layer's weight and remove it; return the number of updates."""
    layers = [layer for layer in module.modules() if isinstance(layer._modules.get("lora"), Lora)]
    for layer in layers:
        lora = layer._modules.pop("lora")
        assert isinstance(lora, Lora)
        layer.get_parameter("weight").add_(lora.update())
        for key, hook in list(layer._forward_hooks.items()):
            if hook is _added:
                del layer._forward_hooks[key]
    return len(layers)

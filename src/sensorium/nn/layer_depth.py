"""Depth of parameters in a network, for layer-wise learning rates."""

from __future__ import annotations

from torch import nn


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the stack of blocks of a ``network``: the ``nn.ModuleList`` that holds most of its weights.

    Without one, the children of its largest ``nn.Sequential``, or else its own children.
    """
    for kind in (nn.ModuleList, nn.Sequential):
        lists = [module for module in network.modules() if isinstance(module, kind) and _size(module)]
        if lists:
            return [block for block in max(lists, key=_size).children() if _size(block)]
    return [part for part in network.children() if _size(part)]


def depths(network: nn.Module) -> tuple[dict[str, int], int]:
    """Return the depth of every parameter of ``network`` by name, and the number of blocks L.

    0: before the first block; 1 to L: in a block; L + 1: after the last.
    """
    stack = blocks(network)
    inside = {id(p): i for i, block in enumerate(stack, 1) for p in block.parameters()}
    depth_of: dict[str, int] = {}
    last = 0
    for name, parameter in network.named_parameters():
        # Parameters declared before the blocks are taken to be used before them.
        last = max(last, 1) if id(parameter) in inside else last
        depth_of[name] = inside.get(id(parameter), len(stack) + 1 if last else 0)
    return depth_of, len(stack)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

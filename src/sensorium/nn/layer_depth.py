"""How deep in a network a weight lies: which blocks it is made of, and which come before and after."""

from __future__ import annotations

from torch import nn


def blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks of ``network``: the module list that holds most of its weights.

    Without such a list the parts of its largest ``nn.Sequential``, and without that its children.
    """
    for kind in (nn.ModuleList, nn.Sequential):
        lists = [module for module in network.modules() if isinstance(module, kind) and _size(module)]
        if lists:
            return [block for block in max(lists, key=_size).children() if _size(block)]
    return [part for part in network.children() if _size(part)]


def depths(network: nn.Module) -> tuple[dict[str, int], int]:
    """The depth of every parameter of ``network`` by name, and the number L of blocks.

    0: before the first block, 1 to L: in a block, L + 1: after the last.
    """
    stack = blocks(network)
    inside = {id(p): i for i, block in enumerate(stack, 1) for p in block.parameters()}
    found: dict[str, int] = {}
    last = 0
    for name, parameter in network.named_parameters():
        # What is declared before the blocks is passed before them.
        last = max(last, 1) if id(parameter) in inside else last
        found[name] = inside.get(id(parameter), len(stack) + 1 if last else 0)
    return found, len(stack)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

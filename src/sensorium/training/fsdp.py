"""FSDP: one model sharded over several processes; each keeps a part of the weights, gradients and moments.

The blocks of encoders and of the fusion are gathered one at a time during the forward and backward pass, all other
weights at the start of a step; gathered weights are freed after use. Source: PyTorch FSDP,
https://arxiv.org/abs/2304.11277.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from sensorium.model import Model
from sensorium.nn.layer_depth import blocks
from sensorium.training.existing_processes import ExistingProcesses
from sensorium.training.process_group import ProcessGroup

BLOCK = 100_000
"""Minimum number of weights of a block that is gathered separately; smaller ones cost more communication than memory
saved.
"""


def strategy(processes: ProcessGroup) -> Any:
    """Return the Lightning strategy for sharded training in the existing ``processes``."""
    from lightning.pytorch.strategies import ModelParallelStrategy

    class Sharded(ModelParallelStrategy):
        """The strategy for processes that are already connected."""

        def setup_environment(self) -> None:
            self.cluster_environment = ExistingProcesses(processes)
            super().setup_environment()

    return Sharded(data_parallel_size=processes.count, tensor_parallel_size=1, save_distributed_checkpoint=False)


def shard(module: nn.Module, model: Model, mesh: Any) -> None:
    """Shard the weights of ``module`` over the processes of ``mesh``, in place; ``model`` is the model within it."""
    mesh = mesh["data_parallel"]
    # Gathering is collective: every process must run every part, even those that none of its rows needs.
    model.always = True
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # channels-last weights cannot be sharded
    for tensor in [*module.parameters(), *module.buffers()]:
        dist.broadcast(tensor.data, 0)  # all start from the first process's values
    for network in [*model.encoders.values(), model.fusion]:
        large = [block for block in blocks(network) if sum(p.numel() for p in block.parameters()) >= BLOCK]
        for block in large if len(large) > 1 else ():
            fully_shard(block, mesh=mesh)
    # Reshard after validation too: between steps, averages are computed on each process's part.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for name in ("training_step", "validation_step"):
        register_fsdp_forward_method(module, name)


def zero_loss(module: nn.Module) -> Tensor:
    """Return zero, with zero gradients for all unsharded weights of ``module``, so that all processes reduce the same
    ones.
    """
    zero = torch.zeros(())
    for parameter in unsharded(module):
        zero = zero.to(parameter.device) + parameter.sum() * 0.0
    return zero


def unsharded(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the trainable weights of ``module`` that are currently unsharded."""
    return (p for p in module.parameters() if p.requires_grad and not isinstance(p, DTensor))


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the full tensor of a possibly sharded ``tensor``; a collective call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_part(tensor: Tensor) -> Tensor:
    """Return this process's part of ``tensor``, sharing memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def join_parts(part: Tensor, like: Tensor) -> Tensor:
    """Return the full tensor of which ``part`` is this process's part, sharded as ``like`` is; a collective call."""
    if not isinstance(like, DTensor):
        return part
    tensor = DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return full_tensor(tensor)


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of the full ``tensor``, sharded as ``like`` is."""
    if not isinstance(like, DTensor):
        return tensor.to(like)
    return local_part(distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None))

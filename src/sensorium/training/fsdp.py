"""One model over several processes: each keeps a part of the weights, their gradients and moments (FSDP).

The blocks of encoders and of the fusion are gathered one by one as they are passed, all else at the beginning of a step;
what was gathered is let go when it has been used. Source: PyTorch FSDP, https://arxiv.org/abs/2304.11277.
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
from sensorium.training.process_group import ExistingProcesses, ProcessGroup

BLOCK = 100_000
"""Weights of a block from which it is gathered by itself: smaller ones would cost more words than they save memory."""


def strategy(processes: ProcessGroup) -> Any:
    """What Lightning has to do differently."""
    from lightning.pytorch.strategies import ModelParallelStrategy

    class Sharded(ModelParallelStrategy):
        """Of processes that have met already."""

        def setup_environment(self) -> None:
            self.cluster_environment = ExistingProcesses(processes)
            super().setup_environment()

    return Sharded(data_parallel_size=processes.count, tensor_parallel_size=1, save_distributed_checkpoint=False)


def shard(module: nn.Module, model: Model, mesh: Any) -> None:
    """Part the weights of a module over the processes of a mesh, in place; ``model`` is the model within it."""
    mesh = mesh["data_parallel"]
    # What no row of one process reaches would be gathered there by nobody: all pass everything.
    model.always = True
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # channels last cannot be parted
    for tensor in [*module.parameters(), *module.buffers()]:
        dist.broadcast(tensor.data, 0)  # the first process's are everybody's
    for network in [*model.encoders.values(), model.fusion]:
        large = [block for block in blocks(network) if sum(p.numel() for p in block.parameters()) >= BLOCK]
        for block in large if len(large) > 1 else ():
            fully_shard(block, mesh=mesh)
    # Let go after validation too: between steps averages are taken of what each process keeps.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for name in ("training_step", "validation_step"):
        register_fsdp_forward_method(module, name)


def zero_loss(module: nn.Module) -> Tensor:
    """Zero, with a gradient of zero for all weights that are gathered now: processes reduce the same ones, used or not."""
    zero = torch.zeros(())
    for parameter in unsharded(module):
        zero = zero.to(parameter.device) + parameter.sum() * 0.0
    return zero


def unsharded(module: nn.Module) -> Iterator[nn.Parameter]:
    """The weights that learn and are whole here."""
    return (p for p in module.parameters() if p.requires_grad and not isinstance(p, DTensor))


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor that may be parted; all processes must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_part(tensor: Tensor) -> Tensor:
    """This process's part of a tensor; the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def join_parts(part: Tensor, like: Tensor) -> Tensor:
    """All of a tensor of which this is the process's part, parted as ``like`` is; all processes must ask."""
    if not isinstance(like, DTensor):
        return part
    found = DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return full_tensor(found)


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, as ``like`` is parted."""
    if not isinstance(like, DTensor):
        return tensor.to(like)
    return local_part(distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None))

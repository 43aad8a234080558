"""The processes that train one model together: who this one is, and what they say to each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import Tensor


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train together; alone, it hears only itself.

    Args:
        rank: Which of all it is, from 0.
        count: How many there are.
        local: Which of those on this machine it is.
        machines: On how many machines they are, as many on each.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    machines: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.count > 1

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over processes of a tensor of one shape."""
        if not self.several:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def broadcast(self, value: Any) -> Any:
        """What the first process gives here, plain JSON; the others' own values do not matter."""
        if not self.several:
            return value
        return _from_bytes(_broadcast_bytes(_to_bytes(value if self.first else None)))

    def gather(self, value: Any) -> list[Any]:
        """What every process gives here, plain JSON, in their order."""
        return [self._broadcast_from(rank, value) for rank in range(self.count)] if self.several else [value]

    def _broadcast_from(self, rank: int, value: Any) -> Any:
        return _from_bytes(_broadcast_bytes(_to_bytes(value if self.rank == rank else None), rank))

    def gather_states(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """What every process kept of its rows: nested mappings of tensors ``[rows, ...]`` and of lists of plain values."""
        if not self.several:
            return [state]
        found: list[dict[str, Any]] = [{} for _ in range(self.count)]
        for key, value in state.items():
            if isinstance(value, dict):
                parts: list[Any] = self.gather_states(value)
            elif isinstance(value, Tensor):
                parts = _gather_rows(value, self.gather(len(value)))
            else:
                parts = self.gather(value)
            for one, part in zip(found, parts, strict=True):
                one[key] = part
        return found


SINGLE_PROCESS = ProcessGroup()


def _gather_rows(tensor: Tensor, rows: list[int]) -> list[Tensor]:
    """The rows of each process; sent as bytes, and as many from each, as the collectives want it."""
    own = tensor.detach().cpu().contiguous()
    padded = own.new_zeros((max(rows), *own.shape[1:]))
    padded[: len(own)] = own
    flat = padded.reshape(-1).view(torch.uint8)
    parts = [torch.empty_like(flat) for _ in rows]
    dist.all_gather(parts, flat)
    return [part.view(own.dtype).reshape(padded.shape)[:n] for part, n in zip(parts, rows, strict=True)]


def _to_bytes(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _from_bytes(data: Tensor) -> Any:
    return json.loads(bytes(data.tolist()))


def _broadcast_bytes(data: Tensor, source: int = 0) -> Tensor:
    """Bytes of one process to all of them; their own length does not matter."""
    size = torch.tensor([len(data)])
    dist.broadcast(size, source)
    if dist.get_rank() != source:
        data = torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(data, source)
    return data


class ExistingProcesses(ClusterEnvironment):
    """Tells Lightning of processes that have met already: it need start none, and asks for no address."""

    def __init__(self, processes: ProcessGroup) -> None:
        self.processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.processes.count

    def set_world_size(self, size: int) -> None: ...

    def global_rank(self) -> int:
        return self.processes.rank

    def set_global_rank(self, rank: int) -> None: ...

    def local_rank(self) -> int:
        return self.processes.local

    def node_rank(self) -> int:
        return self.processes.rank // (self.processes.count // self.processes.machines)

"""The group of processes that train one model together, and communication among them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place in a group of processes, with collective operations; a group of one by default.

    Args:
        rank: The number of this process, from 0.
        count: The number of processes.
        local: The number of this process on its machine, from 0.
        machines: The number of machines, with the same number of processes on each.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    machines: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether the group has more than one process."""
        return self.count > 1

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean over processes of ``tensor``, which has the same shape in all."""
        if not self.several:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def broadcast(self, value: Any) -> Any:
        """Return the first process's ``value``, plain JSON; the values of the others are ignored."""
        if not self.several:
            return value
        return _from_bytes(_broadcast_bytes(_to_bytes(value if self.first else None)))

    def gather(self, value: Any) -> list[Any]:
        """Return the ``value`` of every process, plain JSON, by rank."""
        return [self._broadcast_from(rank, value) for rank in range(self.count)] if self.several else [value]

    def _broadcast_from(self, rank: int, value: Any) -> Any:
        return _from_bytes(_broadcast_bytes(_to_bytes(value if self.rank == rank else None), rank))

    def gather_states(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the ``state`` of every process: nested mappings of tensors ``[rows, ...]`` and of lists of plain
        values.
        """
        if not self.several:
            return [state]
        states: list[dict[str, Any]] = [{} for _ in range(self.count)]
        for key, value in state.items():
            if isinstance(value, dict):
                parts: list[Any] = self.gather_states(value)
            elif isinstance(value, Tensor):
                parts = _gather_rows(value, self.gather(len(value)))
            else:
                parts = self.gather(value)
            for process_state, part in zip(states, parts, strict=True):
                process_state[key] = part
        return states


SINGLE_PROCESS = ProcessGroup()


def _gather_rows(tensor: Tensor, rows: list[int]) -> list[Tensor]:
    """Return the rows of each process; padded to one length and sent as bytes, as the collectives require."""
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
    """Broadcast bytes from one process; the lengths of the others' ``data`` are ignored."""
    size = torch.tensor([len(data)])
    dist.broadcast(size, source)
    if dist.get_rank() != source:
        data = torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(data, source)
    return data

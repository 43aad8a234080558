"""Rows of a batch put one after the other, with their targets: longer rows, and other orders of the same words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sensorium.core.batch import Batch, Field, Ready


def joined_rows(
    batch: Batch, streams: Sequence[str], longest: Sequence[int], target: str, share: float, generator: torch.Generator
) -> Batch:
    """Return ``batch`` with another row appended to a ``share`` of the rows, in all ``streams`` and in the target.

    Rows are left as they are where one of the two lacks the target, where a stream is in only one of them, or where the
    result would be longer than ``longest``. Frames are those of the first part.

    Args:
        batch: Prepared rows. Streams are ``[B, C, T, ...]`` with masks ``[B, T]``, real steps first.
        streams: Names of the streams, which all run along the same time.
        longest: Maximum number of steps of each stream.
        target: Name of the target: ids ``[B, N]``, padded with 0.
        share: Share of rows.
        generator: Source of random numbers.
    """
    inputs = [batch.inputs[name] for name in streams]
    goal = batch.targets.get(target)
    if goal is None or batch.rows < 2 or any(isinstance(part, Ready) or part.mask is None for part in inputs):
        return batch
    device = batch.weight.device
    other = torch.randperm(batch.rows, generator=generator, device=generator.device).to(device)
    joined = (torch.rand(batch.rows, generator=generator, device=generator.device) < share).to(device)
    joined &= goal.present & goal.present[other] & (other != torch.arange(batch.rows, device=device))
    for part, most in zip(inputs, longest, strict=True):
        assert part.mask is not None
        length = part.mask.sum(dim=1) * part.present
        joined &= (part.present == part.present[other]) & (length + length[other] <= most)
    if not bool(joined.any()):
        return batch
    changed = {name: _appended(part, other, joined) for name, part in zip(streams, inputs, strict=True)}
    ids = _appended(replace(goal, data=goal.data[:, None]), other, joined)
    return replace(
        batch,
        inputs={**batch.inputs, **changed},
        targets={**batch.targets, target: replace(ids, data=ids.data[:, 0])},
    )


def _appended(part: Field, other: Tensor, joined: Tensor) -> Field:
    """``part`` ``[B, C, T, ...]`` with the real steps of row ``other`` ``[B]`` after its own where ``joined`` ``[B]``."""
    mask = part.mask if part.mask is not None else part.data[:, 0] != 0
    length = mask.sum(dim=1)
    whole = torch.where(joined, length + length[other], length)
    steps = torch.arange(int(whole.max()), device=mask.device)
    second = (steps >= length[:, None]) & joined[:, None]
    rows = torch.where(second, other[:, None], torch.arange(len(other), device=mask.device)[:, None])
    place = torch.where(second, steps - length[:, None], steps).clamp(max=max(mask.shape[1] - 1, 0))
    real = steps < whole[:, None]
    data = part.data.movedim(2, 1)[rows, place]  # [B, T, C, ...]
    data = data * real.reshape(*real.shape, *[1] * (data.dim() - 2))
    return replace(part, data=data.movedim(1, 2), mask=real, where=None)

"""Standard normal noise seeded by row, so that results do not depend on the batch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seeded_noise(seeds: Sequence[int], size: int) -> Tensor:
    """Standard normal numbers ``[rows, size]`` on the CPU, the row of each of ``seeds`` from a generator of its own."""
    draw = torch.Generator()
    rows = [torch.randn(size, generator=draw.manual_seed(seed)) for seed in seeds]
    return torch.stack(rows) if rows else torch.zeros(0, size)


def content_seeds(parts: Sequence[Tensor]) -> list[int]:
    """A seed for each row from the contents of its ``parts`` ``[B, ...]``: the same row has the same seed anywhere."""
    rows = torch.cat([part.detach().float().flatten(1) for part in parts], dim=1).cpu().contiguous().numpy()
    return [zlib.crc32(row.tobytes()) for row in rows]

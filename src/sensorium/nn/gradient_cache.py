"""Gradient caching: encode a large batch in chunks, so that memory grows with the chunk and not with the batch.

A loss that compares rows (contrast) needs the vectors of all rows of a batch, but not their activations at the same time.
Each chunk is encoded without storing activations; the loss is computed on all vectors; then each chunk is encoded again,
with the random numbers it had at first, and its gradients are added up. They are those of the whole batch, for about a
third more time. Sources: Gao et al. 2021 (GradCache), https://arxiv.org/abs/2101.06983, § 3; recomputation, Chen et al.
2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from sensorium.core.batch import Encoded, Field, joined


def encode_in_chunks(encode: Callable[[Field], Encoded], field: Field, size: int, module: nn.Module) -> Encoded:
    """Return ``encode(field)``, computed ``size`` rows at a time, with activations recomputed in the backward pass.

    Batch normalisation takes its statistics from each chunk instead of the whole batch. Without it, gradients are those of
    one pass.

    Args:
        encode: Encodes a field; it must treat rows independently.
        field: The prepared rows.
        size: Rows in each chunk.
        module: The module that ``encode`` runs: its running statistics are updated once, not again by the recomputation.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(module)

    field = replace(field, where=None)
    parts: list[Encoded] = []
    for start in range(0, len(field.present), size):
        chunk = field.map(lambda part, start=start: part[start : start + size])  # type: ignore[misc]
        # The random state is saved before each chunk and restored for its second pass (preserve_rng_state, the default).
        parts.append(checkpoint(encode, chunk, use_reentrant=False, context_fn=contexts))
    # A chunk without any row that has the stream has a single blank token and no grid.
    encoded: Encoded = joined(parts)
    return replace(encoded, grid=next((part.grid for part in parts if bool(part.present.any())), parts[0].grid))


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisation as they are."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = torch.zeros_like(norm.num_batches_tracked)
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count

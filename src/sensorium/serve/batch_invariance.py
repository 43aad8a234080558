"""Measure whether predictions are bit-identical at every batch size on this machine, since kernels do not promise it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import torch

from sensorium.core.forward import Forward
from sensorium.core.layout import Graph, Ids, Row
from sensorium.core.modality import Array, Modality
from sensorium.core.schema import Sample, Schema
from sensorium.predictor import INVARIANT_ROWS, Predictor

_MOST = 64
_ABSENT = 0.2


@dataclass(frozen=True)
class BatchInvariance:
    """The result of the measurement.

    Args:
        least: The smallest batch whose rows equal those of the largest; None: requests may not share batches.
        costs: Seconds of a batch by its number of rows: powers of two from ``least`` up.
    """

    least: int | None
    costs: dict[int, float]

    def passes(self, rows: int) -> list[int]:
        """Return the cheapest batch sizes that together hold ``rows`` rows; the last batch may be padded."""
        cheapest: list[tuple[float, list[int]]] = [(0.0, [])]
        for n in range(1, rows + 1):
            options = [(cost + cheapest[max(n - size, 0)][0], size) for size, cost in self.costs.items()]
            best, size = min(options)
            cheapest.append((best, [size, *cheapest[max(n - size, 0)][1]]))
        return sorted(cheapest[rows][1], reverse=True)


NOT_INVARIANT = BatchInvariance(None, {})


@torch.inference_mode()
def measure_batch_invariance(predictor: Predictor, most: int = _MOST) -> BatchInvariance:
    """Run random rows in batches of halving sizes and in different orders, and compare all outputs bit by bit.

    The algorithm of a kernel depends on the shapes of its inputs, not on their values, so the result holds for all rows.

    Args:
        predictor: The model.
        most: Rows of the largest batch of the server.
    """
    draw = np.random.default_rng(0)
    samples = random_samples(predictor.schema, max(_MOST, INVARIANT_ROWS), draw)
    expected = _pass(predictor, samples, list(range(len(samples))))
    least: int | None = None
    costs: dict[int, float] = {}
    # On a CPU measure the time of this thread, independent of other work on the machine.
    clock = thread_time if predictor.device.type == "cpu" else perf_counter
    size = len(samples)
    while size >= 1:
        seconds = []
        for _ in range(2):  # the first batch of a size includes the setup of its kernels
            order = draw.permutation(len(samples))[:size].tolist()
            started = clock()
            outputs = _pass(predictor, [samples[i] for i in order], order)
            seconds.append(clock() - started)
            if any(not _same(expected[i], outputs[i]) for i in order):
                return _result(least, costs)
        least = size
        if size <= most:
            costs[size] = min(seconds)
        size //= 2
    return _result(least, costs)


def _result(least: int | None, costs: dict[int, float]) -> BatchInvariance:
    # Tables are predicted in batches of at least STEADY rows, with which shared batches must agree.
    return BatchInvariance(least, costs) if least is not None and least <= INVARIANT_ROWS and costs else NOT_INVARIANT


def random_samples(schema: Schema, rows: int, draw: np.random.Generator) -> list[Sample]:
    """Return ``rows`` random rows in the format of ``encode`` for ``schema``: any lengths, some cells missing.

    ``draw`` is the random generator.
    """
    samples: list[Sample] = []
    for _ in range(rows):
        samples.append({c.name: None if draw.random() < _ABSENT else _cell(c.reader, draw) for c in schema.read})
    return samples


def _cell(modality: Modality, draw: np.random.Generator) -> Array:
    blank, layout = modality.blank(), modality.layout
    shape = (int(draw.integers(1, modality.longest + 1)), *blank.shape[1:]) if modality.ragged else blank.shape
    if isinstance(layout, Row):
        codes = [draw.integers(0, n) if n else draw.standard_normal() for n in layout.cardinalities]
        return np.array(codes, dtype=blank.dtype).reshape(shape)
    if isinstance(layout, Ids):
        return draw.integers(1, max(layout.vocabulary, 2), shape).astype(blank.dtype)
    if isinstance(layout, Graph):  # codes: only the modality knows how many there are, but there are at least two
        return draw.integers(0, 2, shape).astype(blank.dtype)
    if blank.dtype == np.uint8:
        return draw.integers(0, 256, shape, dtype=np.uint8)
    scale = 1000 if blank.dtype == np.int16 else 1
    return (scale * draw.standard_normal(shape)).astype(blank.dtype)


def _pass(predictor: Predictor, samples: Sequence[Sample], numbers: Sequence[int]) -> dict[int, list[torch.Tensor]]:
    """Run one batch; return all computed tensors of each row."""
    batch = predictor.batch(samples, len(samples))
    run = Forward(predictor.model, batch, least=len(samples))
    computed = [*_tensors(run.streams), *_tensors(run.fused), *_tensors(run.outputs)]
    rows = batch.rows
    # Only outputs with a row dimension are compared; others may be weights of experts, for example.
    by_row = [tensor.cpu() for tensor in computed if tensor.dim() and tensor.shape[0] == rows]
    return {number: [tensor[i] for tensor in by_row] for i, number in enumerate(numbers)}


def _tensors(value: Any) -> list[torch.Tensor]:
    from torch.utils import _pytree as pytree

    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _same(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))

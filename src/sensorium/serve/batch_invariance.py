"""Whether requests may share passes of a model here and keep every bit: tried out, since kernels promise nothing."""

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
from sensorium.predictor import STEADY, Predictor

_MOST = 64
_ABSENT = 0.2


@dataclass(frozen=True)
class Found:
    """What was found.

    Args:
        least: The smallest pass whose rows come out as in the largest; None: passes may not be shared.
        costs: Seconds of a pass, by its rows: powers of two from ``least`` up.
    """

    least: int | None
    costs: dict[int, float]

    def passes(self, rows: int) -> list[int]:
        """So many rows as passes of these sizes, as cheaply as the costs allow; the last may be filled up."""
        cheapest: list[tuple[float, list[int]]] = [(0.0, [])]
        for n in range(1, rows + 1):
            ways = [(cost + cheapest[max(n - size, 0)][0], size) for size, cost in self.costs.items()]
            best, size = min(ways)
            cheapest.append((best, [size, *cheapest[max(n - size, 0)][1]]))
        return sorted(cheapest[rows][1], reverse=True)


UNSTEADY = Found(None, {})


@torch.inference_mode()
def steadiness(predictor: Predictor, most: int = _MOST) -> Found:
    """Runs invented rows through passes of every size, in other orders and company, and compares every bit of them.

    What a kernel does depends on the shapes it is given, never on the numbers; so what holds for these rows holds for all.

    Args:
        most: Rows of the largest pass that the server will make.
    """
    draw = np.random.default_rng(0)
    samples = invented(predictor.schema, max(_MOST, STEADY), draw)
    expected = _pass(predictor, samples, list(range(len(samples))))
    least: int | None = None
    costs: dict[int, float] = {}
    # On a processor, the time of this thread: other work beside it says nothing about a pass.
    clock = thread_time if predictor.device.type == "cpu" else perf_counter
    size = len(samples)
    while size >= 1:
        seconds = []
        for _ in range(2):  # the first of a size also makes its kernels
            order = draw.permutation(len(samples))[:size].tolist()
            begun = clock()
            found = _pass(predictor, [samples[i] for i in order], order)
            seconds.append(clock() - begun)
            if any(not _same(expected[i], found[i]) for i in order):
                return _agreeing(least, costs)
        least = size
        if size <= most:
            costs[size] = min(seconds)
        size //= 2
    return _agreeing(least, costs)


def _agreeing(least: int | None, costs: dict[int, float]) -> Found:
    # Predictions of a table are made in passes of STEADY rows and more: what does not agree with those is of no use.
    return Found(least, costs) if least is not None and least <= STEADY and costs else UNSTEADY


def invented(schema: Schema, rows: int, draw: np.random.Generator) -> list[Sample]:
    """Rows of arrays such as ``encode`` gives, of any length, some of them missing; they mean nothing."""
    made: list[Sample] = []
    for _ in range(rows):
        made.append({c.name: None if draw.random() < _ABSENT else _cell(c.reader, draw) for c in schema.read})
    return made


def _cell(modality: Modality, draw: np.random.Generator) -> Array:
    blank, layout = modality.blank(), modality.layout
    shape = (int(draw.integers(1, modality.longest + 1)), *blank.shape[1:]) if modality.ragged else blank.shape
    if isinstance(layout, Row):
        codes = [draw.integers(0, n) if n else draw.standard_normal() for n in layout.cardinalities]
        return np.array(codes, dtype=blank.dtype).reshape(shape)
    if isinstance(layout, Ids):
        return draw.integers(1, max(layout.vocabulary, 2), shape).astype(blank.dtype)
    if isinstance(layout, Graph):  # codes, whose number only the modality knows: it has two of each
        return draw.integers(0, 2, shape).astype(blank.dtype)
    if blank.dtype == np.uint8:
        return draw.integers(0, 256, shape, dtype=np.uint8)
    scale = 1000 if blank.dtype == np.int16 else 1
    return (scale * draw.standard_normal(shape)).astype(blank.dtype)


def _pass(predictor: Predictor, samples: Sequence[Sample], numbers: Sequence[int]) -> dict[int, list[torch.Tensor]]:
    """One pass; by row everything that is computed of it."""
    batch = predictor.batch(samples, len(samples))
    run = Forward(predictor.model, batch, least=len(samples))
    computed = [*_tensors(run.streams), *_tensors(run.fused), *_tensors(run.outputs)]
    rows = batch.rows
    # Not every output needs to go by rows (weights of a vote may come along); what does is compared.
    by_row = [tensor.cpu() for tensor in computed if tensor.dim() and tensor.shape[0] == rows]
    return {number: [tensor[i] for tensor in by_row] for i, number in enumerate(numbers)}


def _tensors(value: Any) -> list[torch.Tensor]:
    from torch.utils import _pytree as pytree

    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _same(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

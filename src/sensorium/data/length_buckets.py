"""Length bucketing: rows of similar length share a batch, which reduces padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sensorium.data.column_storage import Index

Cost = NDArray[np.float64]


def cost(lengths: Mapping[str, Index], steps: Mapping[str, float]) -> Cost | None:
    """Return the cost of each row in encoder steps over its ragged streams; None where all rows cost the same.

    Args:
        lengths: The length of each row, by stream.
        steps: Encoder steps per stored unit, by stream (1 for a word, 0.01 for an audio sample).
    """
    uneven = [length * steps[stream] for stream, length in lengths.items() if steps.get(stream) and np.ptp(length)]
    return np.sum(uneven, axis=0) if uneven else None


def bucketed(order: Index, size: int, window: int, cost: Cost, seed: Sequence[int]) -> Index:
    """Reorder rows within windows of batches, so that rows of similar cost share a batch.

    Batches come in random order; within a batch, rows keep their drawn order. The incomplete batch at the end is unchanged,
    so that no row is in it more often than another.

    Args:
        order: Row numbers in drawn order.
        size: Rows per batch.
        window: Batches among which rows are moved.
        cost: The cost of each row.
        seed: Determines the order of the batches.
    """
    full = len(order) // size
    rows = order[: full * size].reshape(full, size).copy()
    for start in range(0, full, window):
        part = rows[start : start + window].reshape(-1)
        place = np.argsort(cost[part], kind="stable").reshape(-1, size)
        rows[start : start + window] = part[np.sort(place, axis=1)]
    np.random.default_rng([*seed, window]).shuffle(rows)
    return np.concatenate([rows.reshape(-1), order[full * size :]])


@dataclass(frozen=True)
class Padding:
    """The share of padding in what encoders read of ragged streams. Rows that lack a stream do not count.

    Args:
        share: Over all streams.
        streams: By stream.
    """

    share: float
    streams: dict[str, float]


def padding(lengths: Mapping[str, Index], steps: Mapping[str, float], batches: Sequence[Index]) -> Padding:
    """Return the padding of some batches.

    Args:
        lengths: The length of each row, by stream.
        steps: Encoder steps per stored unit, by stream.
        batches: Row numbers of each batch.
    """
    real, cells = dict.fromkeys(lengths, 0.0), dict.fromkeys(lengths, 0.0)
    for stream, length in lengths.items():
        for batch_lengths in (length[index] for index in batches):
            real[stream] += steps.get(stream, 0.0) * int(batch_lengths.sum())
            cells[stream] += steps.get(stream, 0.0) * int(batch_lengths.max(initial=0)) * int((batch_lengths > 0).sum())
    streams = {stream: 1 - real[stream] / cells[stream] for stream in lengths if cells[stream]}
    return Padding(1 - sum(real.values()) / max(sum(cells.values()), 1e-9) if streams else 0.0, streams)

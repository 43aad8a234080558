"""Rows of like length in the same batch, so that less of it is padding."""

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
    """What each row costs: the steps that encoders read of it, over its ragged streams. None where rows do not differ.

    ``steps``: by stream, how many of them a stored unit makes (a word one, a sample of sound a hundredth).
    """
    uneven = [length * steps[stream] for stream, length in lengths.items() if steps.get(stream) and np.ptp(length)]
    return np.sum(uneven, axis=0) if uneven else None


def bucketed(order: Index, size: int, window: int, cost: Cost, seed: Sequence[int]) -> Index:
    """The order with rows moved among every ``window`` batches, so that rows of like cost share a batch of ``size``.

    Batches come in a random order, which follows from the seed; within a batch rows stand as they were drawn. What
    fills no batch at the end stays where it is, so that no row is more often in a short batch than another.
    """
    whole = len(order) // size
    rows = order[: whole * size].reshape(whole, size).copy()
    for start in range(0, whole, window):
        part = rows[start : start + window].reshape(-1)
        place = np.argsort(cost[part], kind="stable").reshape(-1, size)
        rows[start : start + window] = part[np.sort(place, axis=1)]
    np.random.default_rng([*seed, window]).shuffle(rows)
    return np.concatenate([rows.reshape(-1), order[whole * size :]])


@dataclass(frozen=True)
class Padding:
    """How much of some batches holds nothing, as a share of what encoders read of their ragged streams.

    Rows that lack a stream count nothing: no encoder sees them.
    """

    share: float
    streams: dict[str, float]


def padding(lengths: Mapping[str, Index], steps: Mapping[str, float], batches: Sequence[Index]) -> Padding:
    """The padding of these batches; see ``cost`` for ``steps``."""
    real, cells = dict.fromkeys(lengths, 0.0), dict.fromkeys(lengths, 0.0)
    for stream, length in lengths.items():
        for some in (length[index] for index in batches):
            real[stream] += steps.get(stream, 0.0) * int(some.sum())
            cells[stream] += steps.get(stream, 0.0) * int(some.max(initial=0)) * int((some > 0).sum())
    streams = {stream: 1 - real[stream] / cells[stream] for stream in lengths if cells[stream]}
    return Padding(1 - sum(real.values()) / max(sum(cells.values()), 1e-9) if streams else 0.0, streams)

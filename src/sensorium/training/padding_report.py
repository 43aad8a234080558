"""How much of a run's batches is padding, as rows are drawn and with rows of like length together."""

from __future__ import annotations

from typing import Any

import numpy as np

from sensorium.core.recipe import Training
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import Rows
from sensorium.data.length_buckets import Padding, cost, padding
from sensorium.data.loader import Loader
from sensorium.reporting.console import Console

SAMPLE = 32
"""Rows that are made ready to see how many steps of an encoder a stored unit makes."""
WORTH = 0.1
"""Padding that must be saved for the way to save it to be told, as a share of what encoders read."""
WINDOW = 50
"""Batches among which rows are put together, where nothing else is said."""


def steps_per_unit(schema: Schema, rows: Rows) -> dict[str, float]:
    """By ragged stream, how many steps an encoder reads for each stored unit; 0 where its padding costs nothing."""
    lengths = rows.lengths()
    if not lengths:
        return {}
    index = np.arange(min(len(rows), SAMPLE), dtype=np.int64)
    ready = schema.prepare(rows.batch(index)).inputs
    found = {}
    for stream, length in lengths.items():
        mask, stored = ready[stream].mask, int(length[index].sum())
        if mask is None or not stored:
            found[stream] = 0.0 if mask is None else 1.0
        else:
            found[stream] = int(mask[ready[stream].present].sum()) / stored
    return found


def padding_shares(schema: Schema, rows: Rows, spec: Training, seed: int) -> tuple[Padding, Padding] | None:
    """The padding of the first epoch as rows are drawn, and with rows of like length together; None where there is none."""
    lengths = rows.lengths()
    if not lengths:
        return None
    per = steps_per_unit(schema, rows)
    costs = cost(lengths, per)
    if costs is None:
        return None
    size = (spec.batch_size or 1) * spec.devices * spec.nodes
    window = spec.bucket if spec.bucket > 1 else WINDOW
    drawn, together = (
        padding(lengths, per, Loader(rows, size, seed=seed, bucket=bucket, costs=costs).batches()) for bucket in (0, window)
    )
    return drawn, together


def report_padding(schema: Schema, rows: Rows, spec: Training, seed: int, console: Console) -> dict[str, Any]:
    """Padding said aloud, and as plain data for a report; empty where no stream is ragged."""
    found = padding_shares(schema, rows, spec, seed)
    if found is None:
        return {}
    drawn, together = found
    used = together if spec.bucket > 1 else drawn
    other = ""
    if spec.bucket > 1:
        other = f"; {drawn.share:.0%} as rows are drawn"
    elif drawn.share - together.share > WORTH:
        other = f"; {together.share:.0%} with training.bucket={WINDOW}, faster and perhaps less accurate: docs/speed.md"
    console.note(f"  padding is {used.share:.0%} of what encoders read{other}")
    return {
        "drawn": round(drawn.share, 4),
        "trained": round(used.share, 4),
        "streams": {stream: round(share, 4) for stream, share in used.streams.items()},
    }

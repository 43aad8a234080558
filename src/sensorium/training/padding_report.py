"""The share of padding in a run's batches, in random order and with rows of similar length together."""

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
"""Rows that are prepared to measure how many encoder steps a stored unit makes."""
WORTH = 0.1
"""Minimum saving of padding, as a share of what encoders read, for bucketing to be suggested."""
WINDOW = 50
"""Default number of batches among which rows are sorted by length."""


def steps_per_unit(schema: Schema, rows: Rows) -> dict[str, float]:
    """Return, for each ragged stream of ``schema``, the encoder steps per stored unit of ``rows``; 0 if padding costs
    nothing.
    """
    lengths = rows.lengths()
    if not lengths:
        return {}
    index = np.arange(min(len(rows), SAMPLE), dtype=np.int64)
    ready = schema.prepare(rows.batch(index)).inputs
    ratios = {}
    for stream, length in lengths.items():
        mask, stored = ready[stream].mask, int(length[index].sum())
        if mask is None or not stored:
            ratios[stream] = 0.0 if mask is None else 1.0
        else:
            ratios[stream] = int(mask[ready[stream].present].sum()) / stored
    return ratios


def padding_shares(schema: Schema, rows: Rows, spec: Training, seed: int) -> tuple[Padding, Padding] | None:
    """Return the padding of the first epoch in random order and with bucketing; None where no stream is ragged.

    Args:
        schema: The fitted columns.
        rows: Encoded training rows.
        spec: The section ``training`` of the recipe.
        seed: The random seed of the run.
    """
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
    """Print the share of padding on ``console`` and return it as plain data; empty where no stream is ragged.

    Args:
        schema: The fitted columns.
        rows: Encoded training rows.
        spec: The section ``training`` of the recipe.
        seed: The random seed of the run.
        console: Where the share is printed.
    """
    shares = padding_shares(schema, rows, spec, seed)
    if shares is None:
        return {}
    drawn, together = shares
    used = together if spec.bucket > 1 else drawn
    other = ""
    if spec.bucket > 1:
        other = f"; {drawn.share:.0%} in random order"
    elif drawn.share - together.share > WORTH:
        other = f"; {together.share:.0%} with training.bucket={WINDOW}, faster and perhaps less accurate: docs/speed.md"
    console.note(f"  padding is {used.share:.0%} of what encoders read{other}")
    return {
        "drawn": round(drawn.share, 4),
        "trained": round(used.share, 4),
        "streams": {stream: round(share, 4) for stream, share in used.streams.items()},
    }

"""Size of a model and length of its training, by the number of rows."""

from __future__ import annotations

import math

from sensorium.core.cpu_cores import named_threads, process_cores
from sensorium.core.layout import Ids, Row
from sensorium.core.recipe import Size
from sensorium.core.schema import Schema


def model_size(rows: int) -> Size:
    """Return the name of the preset of sizes for ``rows`` training rows."""
    return "small" if rows < 20_000 else "base"


def batch_size(rows: int) -> int:
    """Return the rows of a batch for ``rows`` rows: small tables need many steps, large ones low gradient noise."""
    return 16 if rows < 300 else 32 if rows < 5_000 else 64 if rows < 50_000 else 128


def epochs(rows: int, batch: int) -> int:
    """Return the number of passes over ``rows`` training rows in batches of ``batch`` rows.

    About 2,400 steps for small tables, more with the rows; 4 to 60 passes, up to 150 over a few hundred rows.
    """
    # Digit pictures, 20 passes and 60 (one seed): convnet 0.978 and 0.982, vit 0.936 and 0.971. The best epoch is kept.
    # 300 rows, three folds: OSULeaf 0.920 with 150 passes, 0.837 with 50 and 0.917 with 300; tables and texts do not tell
    # them apart (docs/results.md, "How the defaults were chosen").
    steps = 2_400 * max(1.0, min(rows, 5_000) / 2_000) * max(1.0, math.sqrt(rows / 5_000))
    most = 150 if rows <= 300 else 60
    return max(4, min(most, round(steps * batch / max(rows, 1))))


def threads(size: Size, processes: int) -> int:
    """Return the number of torch threads of each of ``processes`` on this machine that train a model of ``size`` together.

    ``OMP_NUM_THREADS`` bounds it, as do the cores that this process may run on: a thread that waits for a core keeps the
    others waiting, so that with one core of two occupied, two threads took seven times as long as one.
    """
    # Steps of a small model are too short to parallelise: a second thread costs more time than it saves.
    if size in ("tiny", "small"):
        return 1
    share = max(1, process_cores() // processes)
    return min(share, named_threads() or share)


LONG_EPOCH = 500
"""Steps of an epoch from which on a few epochs without a better one are enough to stop."""


def patience(epochs: int, schema: Schema, experts: bool, steps: int) -> int:
    """Return the number of epochs without improvement after which training ends.

    Args:
        epochs: Maximum number of epochs.
        schema: The columns.
        experts: Whether there are experts: a third of the epochs, at least 8; 8 to 12 for text and tables with experts,
            where the network overfits early, and 3 where an epoch is long.
        steps: Steps in an epoch.
    """
    early = experts and all(isinstance(schema.layout(stream), Ids | Row) for stream in schema.streams)
    if early and steps >= LONG_EPOCH:
        return 3
    return max(8, min(12, epochs // 6) if early else epochs // 3)

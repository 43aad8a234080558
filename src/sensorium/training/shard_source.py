"""Shards as a source of training batches, and the choice of rows held out for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.core.cpu_cores import process_cores
from sensorium.core.modality import is_blank
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.shards.prefetch import PrefetchedBatches
from sensorium.data.shards.row_stream import Record, Stream
from sensorium.data.shards.shard_folder import shards
from sensorium.data.tables.table import Table
from sensorium.training.process_group import ProcessGroup

DECODED_ROWS = 2_048
"""Rows of the sample that are decoded, to fit data-dependent encoders on."""


@dataclass(frozen=True)
class HeldOutRows:
    """Which rows are for validation: a function of seed, shard and row, or of seed and group.

    Args:
        seed: The random seed.
        sizes: Rows of every shard.
        share: By shard number, the share of its rows; None for groups.
        by: The column of groups, whose rows stay together.
        part: The share of the groups.
    """

    seed: int
    sizes: tuple[int, ...]
    share: Mapping[int, float] | None
    by: str | None = None
    part: float = 0.0
    _drawn: dict[int, NDArray[np.bool_]] = field(default_factory=dict)

    def __call__(self, shard: int, row: int, record: Record) -> bool:
        if self.by is not None:
            cell = record.get(self.by)
            key = f"{self.seed}/{shard}/{row}" if is_blank(cell) else f"{self.seed}:{str(cell).strip()}"
            return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7]) < self.part * 2**56
        return bool(self.rows(shard)[row])

    def rows(self, shard: int) -> NDArray[np.bool_]:
        """Return whether each row of the shard numbered ``shard`` is held out; not for groups."""
        if shard not in self._drawn:
            if len(self._drawn) > 4:
                self._drawn.clear()
            share = (self.share or {}).get(shard, 0.0)
            self._drawn[shard] = np.random.default_rng((self.seed, 1, shard)).random(self.sizes[shard]) < share
        return self._drawn[shard]

    def training_rows(self) -> int:
        """Return the number of rows that are not held out; with groups, an estimate."""
        if self.by is not None:
            return max(1, round(sum(self.sizes) * (1 - self.part)))
        return sum(self.sizes) - sum(int(self.rows(shard).sum()) for shard in self.share or {})


@dataclass(frozen=True)
class ShardSource:
    """The shards that a model is trained from.

    Args:
        source: The folder or file of shards.
        rows: Training rows of a pass.
        held: Which rows are held out.
    """

    source: Path
    rows: int
    held: HeldOutRows | None

    def flow(self, schema: Schema, plan: Recipe, processes: ProcessGroup) -> PrefetchedBatches:
        """Return this process's batches, for the fitted ``schema``, the recipe ``plan`` and the process group
        ``processes``.
        """
        stream = Stream(
            self.source,
            seed=plan.seed,
            buffer=plan.data.buffer,
            reader=processes.rank,
            readers=processes.count,
            leave=self.held,
        )
        assert plan.training.batch_size is not None, "the recipe is resolved"
        return PrefetchedBatches(
            stream, schema, plan.training.batch_size, workers=max(1, process_cores() // processes.count)
        )

    def steps(self, plan: Recipe, processes: ProcessGroup) -> int:
        """Return the number of batches per epoch in each of ``processes``, for the recipe ``plan``."""
        assert plan.training.batch_size is not None, "the recipe is resolved"
        return max(1, (plan.data.epoch_rows or self.rows) // (plan.training.batch_size * processes.count))

    def decoded_sample(self, sample: Table) -> Table:
        """Return the rows of ``sample`` that are decoded."""
        return sample.take(range(min(len(sample), DECODED_ROWS)))

    @property
    def identity(self) -> list[Any]:
        """What identifies the shards: names, sizes and checksums."""
        return [[shard.path.name, len(shard), shard.sha256] for shard in shards(self.source)]

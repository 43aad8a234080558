"""Preparation of training from a stream of shards: a sample to declare and fit columns on, and validation rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.core.errors import ConfigError, DataError
from sensorium.core.recipe import Recipe
from sensorium.data.shards.row_stream import Record
from sensorium.data.shards.shard_folder import Shard, is_sharded, recorded_answers, shards
from sensorium.data.tables.json_tables import from_records
from sensorium.data.tables.table import Table
from sensorium.reporting.console import Console
from sensorium.training.shard_source import HeldOutRows, ShardSource
from sensorium.training.table_splits import TableSplits, declare_columns, with_target
from sensorium.training.training_request import Request

SAMPLED_SHARDS = 32
"""Maximum number of shards that are sampled before training."""
SAMPLE_ROWS = 20_000
"""Maximum number of sampled rows, which columns are declared from and modalities fitted on."""
VALID_ROWS = 10_000
"""Number of rows to hold out, which are kept in memory like those of a table; at most twice as many are kept."""


def from_shards(request: Request, console: Console) -> TableSplits:
    """Return declared columns, a sample of the training rows, and validation rows, as ``request`` says.

    Progress is printed on ``console``.

    Raises:
        ConfigError: The source is not sharded, or the split is by time.
        DataError: There are too few rows.
    """
    plan, valid = request.plan, request.valid
    path = _shard_path(request.source)
    all_shards = shards(path)
    sizes = tuple(len(shard) for shard in all_shards)
    sampled = sorted(np.random.default_rng((plan.seed, 2)).permutation(len(all_shards))[:SAMPLED_SHARDS].tolist())
    held = None if valid is not None else _held_out_rows(plan, sizes, sampled)
    kept, held_out = _sample_shards(path, all_shards, sizes, sampled, held, console)
    if held is not None:
        held_out = _with_columns_of(held_out, kept)
    request = request.for_table(kept.target, kept.annotations)
    plan = request.plan
    schema = declare_columns(kept, request, console)
    if valid is not None:
        held_out = Table.read(valid, root=request.media)
    training, held_out = with_target(kept, schema, plan), with_target(held_out, schema, plan)
    if not len(training) or not len(held_out):
        raise DataError("too few rows to train and validate on", file=path, fix="give validation rows: --valid")
    rows = sum(sizes) if held is None else held.training_rows()
    console.note(f"  a stream of {rows:,} training rows in {len(all_shards):,} shards; {len(held_out):,} rows validate")
    return TableSplits(schema, training, held_out, rows, ShardSource(path, rows, held), plan=plan)


def _shard_path(source: Any) -> Path:
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is None or not (is_sharded(path) or (path.is_file() and path.suffix in (".parquet", ".tar"))):
        raise ConfigError(
            "only shards can be read as a stream",
            file=path,
            fix="pack the table first: sensorium pack table.csv folder/, then name the folder",
        )
    return path


def _held_out_rows(plan: Recipe, sizes: tuple[int, ...], sampled: list[int]) -> HeldOutRows:
    spec = plan.data.split
    if spec.kind == "time":
        raise ConfigError("a stream cannot be split by time", fix="give validation rows: --valid")
    if spec.kind == "group":
        if spec.by is None:
            raise ConfigError("split: kind group needs a column", fix="name it: by: patient")
        return HeldOutRows(plan.seed, sizes, None, spec.by, spec.part)
    most = min(spec.part * sum(sizes), VALID_ROWS)
    share = min(0.5, most / max(1, sum(sizes[shard] for shard in sampled)))
    return HeldOutRows(plan.seed, sizes, dict.fromkeys(sampled, share))


def _sample_shards(
    path: Path,
    all_shards: list[Shard],
    sizes: tuple[int, ...],
    sampled: list[int],
    held: HeldOutRows | None,
    console: Console,
) -> tuple[Table, Table]:
    """Return training rows and held-out rows of some shards; media are references."""
    kept: list[Record] = []
    out: list[Record] = []
    kept_numbers: list[int] = []
    out_numbers: list[int] = []
    start = np.concatenate([[0], np.cumsum(sizes)])
    for done, number in enumerate(sampled):
        # If an earlier shard had too few rows, later ones make up for it.
        most = SAMPLE_ROWS * (done + 1) // len(sampled)
        for i, record in enumerate(all_shards[number].records()):
            if held is not None and held(number, i, record):
                if len(out) < 2 * VALID_ROWS:
                    out.append(record)
                    out_numbers.append(int(start[number]) + i + 1)
            elif len(kept) < most:
                kept.append(record)
                kept_numbers.append(int(start[number]) + i + 1)
        console.step("sampling shards", done + 1, len(sampled))
    root, (target, annotations) = path.absolute().parent, recorded_answers(path)

    def table(records: list[Record], numbers: list[int]) -> Table:
        columns = from_records(records, path)
        return Table(columns, source=str(path), root=root, numbers=numbers, target=target, annotations=annotations)

    return table(kept, kept_numbers), table(out, out_numbers)


def _with_columns_of(table: Table, like: Table) -> Table:
    """Return the table with all columns of another; new ones are missing in every row."""
    for name in like.columns:
        if not table.has(name):
            table = table.with_column(name, [None] * len(table))
    return table


def shard_identity(streamed: ShardSource | None) -> str:
    """Return the identity of the shards ``streamed`` for a run's description; empty for None."""
    return "" if streamed is None else json.dumps(streamed.identity)

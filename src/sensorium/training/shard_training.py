"""Training from shards that are read as it goes: what is looked at beforehand, and which rows validate."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.core.errors import ConfigError, DataError
from sensorium.core.recipe import Recipe
from sensorium.data.shards.row_stream import Record
from sensorium.data.shards.shard_folder import Shard, is_sharded, shards
from sensorium.data.tables.json_tables import from_records
from sensorium.data.tables.table import Table
from sensorium.reporting.console import Console
from sensorium.training.shard_source import HeldOutRows, ShardSource
from sensorium.training.table_splits import TableSplits, declare_columns, with_target
from sensorium.training.training_request import Request

SAMPLED_SHARDS = 32
"""Shards that are looked into before training, at most."""
SAMPLE_ROWS = 20_000
"""Of their rows, those that columns are declared from and table cells are learnt from."""
VALID_ROWS = 10_000
"""Rows that are held out, at most: they are kept, as those of a table are."""


def from_shards(request: Request, console: Console) -> TableSplits:
    """Declared columns, a sample to learn from and validation rows, from a look into some of the shards."""
    plan, valid = request.plan, request.valid
    path = _shard_path(request.source)
    found = shards(path)
    sizes = tuple(len(shard) for shard in found)
    looked = sorted(np.random.default_rng((plan.seed, 2)).permutation(len(found))[:SAMPLED_SHARDS].tolist())
    held = None if valid is not None else _held_out_rows(plan, sizes, looked)
    kept, held_out = _sample_shards(path, found, sizes, looked, held, console)
    if held is not None:
        held_out = _with_columns_of(held_out, kept)
    schema = declare_columns(kept, request, console)
    if valid is not None:
        held_out = Table.read(valid, root=request.media)
    training, held_out = with_target(kept, schema, plan), with_target(held_out, schema, plan)
    if not len(training) or not len(held_out):
        raise DataError("too few rows to train and validate on", file=path, fix="give validation rows: --valid")
    rows = sum(sizes) if held is None else held.training_rows()
    console.note(f"  a stream of {rows:,} training rows in {len(found):,} shards; {len(held_out):,} rows validate")
    return TableSplits(schema, training, held_out, rows, ShardSource(path, rows, held))


def _shard_path(source: Any) -> Path:
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is None or not (is_sharded(path) or (path.is_file() and path.suffix in (".parquet", ".tar"))):
        raise ConfigError(
            "only shards are read as a stream",
            file=path,
            fix="pack the table first: sensorium pack table.csv folder/, then name the folder",
        )
    return path


def _held_out_rows(plan: Recipe, sizes: tuple[int, ...], looked: list[int]) -> HeldOutRows:
    spec = plan.data.split
    if spec.kind == "time":
        raise ConfigError("the latest rows of a stream are not known", fix="give validation rows: --valid")
    if spec.kind == "group":
        if spec.by is None:
            raise ConfigError("split: kind group needs a column", fix="name it: by: patient")
        return HeldOutRows(plan.seed, sizes, None, spec.by, spec.part)
    wanted = min(spec.part * sum(sizes), VALID_ROWS)
    share = min(0.5, wanted / max(1, sum(sizes[shard] for shard in looked)))
    return HeldOutRows(plan.seed, sizes, dict.fromkeys(looked, share))


def _sample_shards(
    path: Path, found: list[Shard], sizes: tuple[int, ...], looked: list[int], held: HeldOutRows | None, console: Console
) -> tuple[Table, Table]:
    """Rows to learn from and rows held out, of some shards; media as references."""
    kept: list[Record] = []
    out: list[Record] = []
    kept_numbers: list[int] = []
    out_numbers: list[int] = []
    start = np.concatenate([[0], np.cumsum(sizes)])
    for done, number in enumerate(looked):
        # What a shard before could not give, the next may.
        most = SAMPLE_ROWS * (done + 1) // len(looked)
        for i, record in enumerate(found[number].records()):
            if held is not None and held(number, i, record):
                if len(out) < 2 * VALID_ROWS:
                    out.append(record)
                    out_numbers.append(int(start[number]) + i + 1)
            elif len(kept) < most:
                kept.append(record)
                kept_numbers.append(int(start[number]) + i + 1)
        console.step("looking into shards", done + 1, len(looked))
    root = path.absolute().parent
    return (
        Table(from_records(kept, path), source=str(path), root=root, numbers=kept_numbers),
        Table(from_records(out, path), source=str(path), root=root, numbers=out_numbers),
    )


def _with_columns_of(table: Table, like: Table) -> Table:
    """The table with every column of another; those it lacks are missing in every row."""
    for name in like.columns:
        if not table.has(name):
            table = table.with_column(name, [None] * len(table))
    return table


def shard_identity(streamed: ShardSource | None) -> str:
    """What a run's identity says of where its batches come from."""
    return "" if streamed is None else json.dumps(streamed.identity)

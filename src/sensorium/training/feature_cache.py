"""Cache of the outputs of frozen encoders: computed once per row, stored on disk, and read in every epoch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from sensorium import __version__
from sensorium.core.batch import Encoded, Field, Ready
from sensorium.core.modality import Array
from sensorium.core.objective import Objective
from sensorium.core.recipe import Recipe
from sensorium.core.registry import chosen
from sensorium.core.schema import Schema
from sensorium.data.column_storage import Index, Source
from sensorium.data.encoded_rows import Rows
from sensorium.data.store.computed_arrays import ComputedArrayCache
from sensorium.data.store.content_digest import digest
from sensorium.data.store.file_lock import FileLock
from sensorium.data.store.integrity import FORMAT
from sensorium.data.store.store import Places, Store
from sensorium.model import Model
from sensorium.reporting.console import Console
from sensorium.training.surgery_scope import frozen_streams

ROWS = 64
"""Rows encoded per batch."""
GRID = digest(np.frombuffer(b"the grid of the tokens", np.uint8))
"""The key under which the shape of the grid of tokens is stored, beside those of rows."""


def with_stored_outputs(
    model: Model,
    schema: Schema,
    plan: Recipe,
    parts: tuple[Rows, Rows],
    store: Store,
    objectives: Iterable[Objective],
    console: Console,
) -> tuple[Rows, Rows]:
    """Return the rows with cached encoder outputs in place of the streams whose encoders are frozen.

    Augmented streams stay as they are, since they differ between epochs; so do all streams if an objective reads them
    before encoding.

    Args:
        model: The model.
        schema: The fitted columns.
        plan: The resolved recipe.
        parts: Training and validation rows.
        store: The cache.
        objectives: The objectives of the training.
        console: Where progress is printed.
    """
    if any(objective.raw for objective in objectives):
        return parts
    for stream in frozen_streams(plan.model.surgery, model.streams):
        if model.encoders[stream].gives_pyramid or any(stream in task.prepared_streams for task in model.tasks.values()):
            continue  # feature maps would take as much space as the pictures; a task reads the stream itself
        if _is_frozen(model.encoders[stream]) and not (plan.training.augment and _is_augmented(schema, stream, parts[0])):
            sources = _stored_outputs(model, schema, plan, stream, parts, store, console)
            if sources is not None:
                parts = _with_source(parts[0], stream, sources[0]), _with_source(parts[1], stream, sources[1])
    return parts


def _with_source(rows: Rows, stream: str, source: Source) -> Rows:
    return replace(rows, inputs={**rows.inputs, stream: source})


def _is_frozen(encoder: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in encoder.parameters())


def _is_augmented(schema: Schema, stream: str, rows: Rows) -> bool:
    """Whether training samples of a stream are augmented, found by preparing some with and without random draws."""
    reader = schema.streams[stream][0].reader
    if reader.stream is not None:
        return False
    field = rows.inputs[stream].gather(np.arange(min(len(rows), 32)))
    plain = reader.prepare(field)
    draws = (reader.prepare(field, torch.Generator().manual_seed(seed)) for seed in range(4))
    # Words are dropped too rarely to be detected by comparing.
    return bool(chosen(reader).get("drop")) or any(not torch.equal(drawn.data, plain.data) for drawn in draws)


@dataclass(frozen=True)
class StoredOutputs:
    """Cached encoder outputs: per row the pooled vector, then the tokens, each with a last number telling if it is real."""

    arrays: ComputedArrayCache
    places: Places
    source: Source
    grid: tuple[int, ...]
    """The shape of the token grid of some row."""

    def gather(self, index: Index) -> Field:
        """Return the encoded rows at ``index``."""
        data, present, _ = self.arrays.gather(self.places, index)
        if data.shape[1] < 2:  # all of these rows lack the stream
            data = np.zeros((len(index), 2, *data.shape[2:]), data.dtype)
        both = torch.from_numpy(data)
        tokens, real = both[:, 1:, :-1].contiguous(), both[:, 1:, -1] > 0
        return Ready(tokens, torch.from_numpy(present), real, pooled=both[:, 0, :-1].contiguous(), grid=self.grid)

    def lengths(self) -> Index | None:
        """Return the number of stored vectors of each row."""
        return self.places.length

    def content(self) -> str:
        """Return the digest of the input rows."""
        return self.source.content()


def _stored_outputs(
    model: Model, schema: Schema, plan: Recipe, stream: str, parts: tuple[Rows, Rows], store: Store, console: Console
) -> tuple[Source, Source] | None:
    encoder = model.encoders[stream]
    key = _key(encoder, plan.model.encoders[stream], schema, stream)
    arrays = ComputedArrayCache(store.folder / f"encoded-{key}", encoder.dim + 1)
    device = _device(plan)
    encoder.to(device).eval()
    turn = arrays.turn(lambda: console.step(f"encoding {stream}", 0, 1, "another process is encoding"))
    try:
        sources = []
        total, done = sum(map(len, parts)), 0
        for rows in parts:
            places = Places(np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.int64))
            for index in np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // ROWS))):
                for row, (offset, length) in _locations(model, schema, stream, rows, index, arrays, device, turn):
                    places.offset[row], places.length[row] = offset, length
                done += len(index)
                console.step(f"encoding {stream}", done, total)
                if done == len(index) and not _fits_on_disk(arrays, total / done, store, stream, console):
                    return None
            sources.append(StoredOutputs(arrays, places, rows.inputs[stream], _token_grid(arrays)))
    finally:
        turn.release()
        encoder.cpu()
    return sources[0], sources[1]


def _locations(
    model: Model,
    schema: Schema,
    stream: str,
    rows: Rows,
    index: Index,
    arrays: ComputedArrayCache,
    device: torch.device,
    turn: FileLock,
) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield where the outputs of these rows are stored; those not stored yet are computed."""
    field = rows.inputs[stream].gather(index)
    keys = {i: _digest(field, i) for i in field.present.nonzero().squeeze(1).tolist()}
    known = arrays.find(set(keys.values()))
    if any(key not in known for key in keys.values()):
        turn.acquire()
        known |= arrays.find(set(keys.values())) if turn.waited else {}
    new = {key: i for i, key in keys.items() if key not in known}
    if new:
        at = torch.tensor(list(new.values()))
        part = Field(field.data[at], field.present[at], None if field.mask is None else field.mask[at]).to(device)
        reader = schema.streams[stream][0].reader
        part = reader.prepare(part) if reader.stream is None else part
        with torch.no_grad():
            encoded: Encoded = model.encoders[stream](part.data, part.mask).map(torch.Tensor.cpu)
        made = dict(zip(new, _arrays(encoded), strict=True))
        if not arrays.find([GRID]):
            made[GRID] = _grid_array(encoded.grid, encoded.tokens.shape[2] + 1)
        known |= arrays.keep(made)
    yield from ((int(index[i]), known[key]) for i, key in keys.items())


def _grid_array(grid: tuple[int, ...], width: int) -> Array:
    """The shape of a token grid as an array ``[axes, width]`` of the cache."""
    array = np.zeros((len(grid), width), np.float32)
    array[:, 0] = grid
    return array


def _token_grid(arrays: ComputedArrayCache) -> tuple[int, ...]:
    """Return the shape of the token grid of some row, as stored; empty where no row is stored."""
    if (place := arrays.find([GRID]).get(GRID)) is None or place[1] == 0:
        return ()
    data, _, _ = arrays.gather(Places(np.array(place[:1]), np.array(place[1:])), np.zeros(1, np.int64))
    return tuple(int(size) for size in data[0, :, 0])


def _arrays(encoded: Encoded) -> Iterator[Array]:
    for tokens, mask, pooled in zip(encoded.tokens, encoded.mask, encoded.pooled, strict=True):
        last = int(mask.nonzero().max()) + 1 if bool(mask.any()) else 1
        real = torch.cat([torch.ones(1), mask[:last].float()])
        yield torch.cat([torch.cat([pooled[None], tokens[:last]]).float(), real[:, None]], dim=1).numpy()


def _digest(field: Field, row: int) -> bytes:
    """Return the key of a stored row: its values without padding."""
    data, mask = field.data[row].numpy(), None if field.mask is None else field.mask[row].numpy()
    if mask is None:
        return digest(data)
    real = np.flatnonzero(mask)
    last = int(real[-1]) + 1 if len(real) else 0
    return digest(np.concatenate([data[:last].reshape(last, -1).astype(np.float64), mask[:last, None]], axis=1))


def _key(encoder: nn.Module, spec: Any, schema: Schema, stream: str) -> str:
    """Hash everything but the row that an output depends on."""
    h = hashlib.sha256()
    columns: list[Mapping[str, Any]] = [{**c.spec, "state": c.reader.state} for c in schema.streams[stream]]
    described = [FORMAT, "grid", __version__, torch.__version__, spec, columns]
    h.update(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in encoder.state_dict().items():
        h.update(name.encode())
        h.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return h.hexdigest()[:24]


def _fits_on_disk(arrays: ComputedArrayCache, times: float, store: Store, stream: str, console: Console) -> bool:
    """Whether the disk has room for all outputs, estimated from the first rows."""
    needed = arrays.bytes * times
    if needed < 0.9 * shutil.disk_usage(store.folder).free:
        return True
    console.warn(
        f"{stream}: outputs of its encoder would take {needed / 1e9:.0f} GB on disk: it runs in every epoch instead"
    )
    return False


def _device(plan: Recipe) -> torch.device:
    gpu = plan.training.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")

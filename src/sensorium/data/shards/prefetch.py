"""Prefetching of training batches from a stream: threads read and decode ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from sensorium.core.schema import Problem, Schema
from sensorium.data.encoded_rows import weights
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.data.shards.row_stream import Record, Stream
from sensorium.data.tables.json_tables import from_records
from sensorium.data.tables.table import Table

if TYPE_CHECKING:
    from sensorium.core.batch import Batch

AHEAD = 2
"""Batches read ahead, per decoding thread."""
KEPT = 10_000
"""Most problems recorded."""


class _Read(NamedTuple):
    """A batch being decoded, and the stream position after it."""

    batch: Future[tuple[Batch, list[Problem]]]
    position: dict[str, Any]
    first: bool
    """Whether it is of the first pass; problems are reported once."""


class PrefetchedBatches:
    """An endless iterator of stored batches from a stream, pass after pass, with targets and row weights.

    Memory holds the stream's buffer and a few batches per thread. ``state_dict`` is the position after the last batch
    returned, not the last one read ahead: a flow resumed from it gives the same batches.

    Args:
        stream: The stream of rows.
        schema: Encodes the rows.
        size: Rows per batch.
        workers: Decoding threads; another thread reads.
    """

    def __init__(self, stream: Stream, schema: Schema, size: int, *, workers: int = 2) -> None:
        self.stream, self.schema, self.size = stream, schema, size
        self.problems: list[Problem] = []
        self._weighed = any(column.role == "weight" for column in schema.columns.values())
        self._position = stream.state_dict()
        self._ahead = AHEAD * workers
        self._queue: deque[Future[_Read]] = deque()
        self._rows: Iterator[Record] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._decoders = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def __next__(self) -> Batch:
        while len(self._queue) < self._ahead:
            self._queue.append(self._reader.submit(self._read))
        read = self._queue.popleft().result()
        batch, problems = read.batch.result()
        if read.first:
            self.problems += problems[: KEPT - len(self.problems)]
        self._position = read.position
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch returned, as plain data."""
        return self._position

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from ``state``, which ``state_dict`` returned; batches read ahead are dropped."""
        for ahead in self._queue:
            if not ahead.cancel():
                ahead.result()
        self._queue.clear()
        self.stream.load_state_dict(state)
        self._rows, self._position = None, self.stream.state_dict()

    def close(self) -> None:
        """Stop the threads."""
        self._reader.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def _read(self) -> _Read:
        records: list[Record] = []
        first = self.stream.epoch == 0
        empty = 0
        while len(records) < self.size:
            if self._rows is None:
                self._rows = iter(self.stream)
            rows = list(islice(self._rows, self.size - len(records)))
            records += rows
            if len(records) < self.size:
                # End of the pass: fill the batch from the next one.
                self._rows = None
                empty = 0 if rows else empty + 1
                if empty > 1:
                    raise ValueError("the stream has no rows")
        return _Read(self._decoders.submit(self._decode, records), self.stream.state_dict(), first)

    def _decode(self, records: list[Record]) -> tuple[Batch, list[Problem]]:
        from dataclasses import replace

        import torch

        problems: list[Problem] = []
        batch = self.schema.collate(
            [self.schema.encode(r, media=UPLOADS_ONLY, problems=problems, targets=True) for r in records]
        )
        if self._weighed:
            table = Table(from_records(records, "<stream>"), source="<stream>", numbers=range(1, len(records) + 1))
            batch = replace(batch, weight=torch.from_numpy(weights(self.schema, table)))
        return batch, problems


class StreamEpoch:
    """The next batches of a flow as an epoch that can be resumed midway.

    Args:
        flow: Gives the batches.
        batches: Batches in an epoch.
        epoch: Its number.
    """

    def __init__(self, flow: PrefetchedBatches, batches: int, epoch: int) -> None:
        self.flow, self.batches, self.epoch = flow, batches, epoch
        self.done = 0
        """Batches of this epoch returned so far."""
        self._skip = 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        first, self._skip = self._skip, 0
        for i in range(first, self.batches):
            batch = next(self.flow)
            self.done = i + 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return epoch and batch number; the position in the stream is the flow's."""
        return {"epoch": self.epoch, "batch": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches already returned where ``state`` is of the same epoch."""
        if state["epoch"] == self.epoch:
            self._skip = self.done = state["batch"]

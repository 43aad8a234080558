"""Batches out of a stream without end, read and decoded by threads while the model is busy with those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from sensorium.core.schema import Problem, Schema
from sensorium.data.encoded_rows import weights
from sensorium.data.files.media_access import NONE
from sensorium.data.shards.row_stream import Record, Stream
from sensorium.data.tables.json_tables import from_records
from sensorium.data.tables.table import Table

if TYPE_CHECKING:
    from sensorium.core.batch import Batch

AHEAD = 2
"""Batches that are read before they are wanted, for each thread that decodes."""
KEPT = 10_000
"""Problems that are remembered, at most."""


class _Read(NamedTuple):
    """A batch on its way, and the place in the stream behind it."""

    batch: Future[tuple[Batch, list[Problem]]]
    place: dict[str, Any]
    first: bool
    """Whether it is of the first pass: what is wrong with a cell is told once."""


class Flow:
    """Batches as stored of a stream's rows, pass after pass; targets and row weights come with them.

    Memory holds the stream's buffer and a few batches for each thread. ``state_dict`` is the place behind the batch given
    last, whatever was read ahead: a flow taken up from there gives the same batches.

    Args:
        size: Rows of a batch.
        workers: Threads that decode; one more reads.
    """

    def __init__(self, stream: Stream, schema: Schema, size: int, *, workers: int = 2) -> None:
        self.stream, self.schema, self.size = stream, schema, size
        self.problems: list[Problem] = []
        self._weighed = any(column.role == "weight" for column in schema.columns.values())
        self._place = stream.state_dict()
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
        self._place = read.place
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The place behind the batch given last, as plain data."""
        return self._place

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place that ``state_dict`` told of. What was read ahead is forgotten."""
        for ahead in self._queue:
            if not ahead.cancel():
                ahead.result()
        self._queue.clear()
        self.stream.load_state_dict(state)
        self._rows, self._place = None, self.stream.state_dict()

    def close(self) -> None:
        """Let the threads go."""
        self._reader.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def _read(self) -> _Read:
        records: list[Record] = []
        first = self.stream.epoch == 0
        empty = 0
        while len(records) < self.size:
            if self._rows is None:
                self._rows = iter(self.stream)
            some = list(islice(self._rows, self.size - len(records)))
            records += some
            if len(records) < self.size:
                # The pass is over: the next one fills the batch.
                self._rows = None
                empty = 0 if some else empty + 1
                if empty > 1:
                    raise ValueError("the stream has no rows")
        return _Read(self._decoders.submit(self._decode, records), self.stream.state_dict(), first)

    def _decode(self, records: list[Record]) -> tuple[Batch, list[Problem]]:
        from dataclasses import replace

        import torch

        problems: list[Problem] = []
        batch = self.schema.collate([self.schema.encode(r, media=NONE, problems=problems, targets=True) for r in records])
        if self._weighed:
            table = Table(from_records(records, "<stream>"), source="<stream>", numbers=range(1, len(records) + 1))
            batch = replace(batch, weight=torch.from_numpy(weights(self.schema, table)))
        return batch, problems


class Pass:
    """So many of a flow's next batches, as an epoch that can be taken up in its midst."""

    def __init__(self, flow: Flow, batches: int, epoch: int) -> None:
        self.flow, self.batches, self.epoch = flow, batches, epoch
        self.done = 0
        """Batches of this epoch that were handed out."""
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
        """Where it stands; the place in the stream is the flow's to tell."""
        return {"epoch": self.epoch, "batch": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next batches are those behind the ones of the same epoch that were handed out before."""
        if state["epoch"] == self.epoch:
            self._skip = self.done = state["batch"]

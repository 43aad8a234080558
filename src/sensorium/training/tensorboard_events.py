"""Training scores as a TensorBoard event file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


class EventFile:
    """A TensorBoard event file whose name, unlike that of TensorBoard's own writer, contains no host name or process
       number.

    Source: the format of records and events, https://github.com/tensorflow/tensorboard/blob/master/tensorboard/summary.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._event = Event
        begun = time.time()
        self._path = folder / f"events.out.tfevents.{int(begun)}.{time.time_ns() % 10**9:09d}"
        self._write(Event(wall_time=begun, file_version="brain.Event:2"))

    def add(self, name: str, value: float, step: int) -> None:
        """Write the scalar ``value`` of the tag ``name`` at ``step``."""
        event = self._event(wall_time=time.time(), step=step)
        event.summary.value.add(tag=name, simple_value=value)
        self._write(event)

    def _write(self, event: Any) -> None:
        # Opened for each event: training may be stopped at any time, and there are few events per epoch.
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())

"""Chunks of a stream, as a network brings them, to windows: put in order, gaps filled, and everything counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from sensorium.core.errors import DataError
from sensorium.core.modality import Array


class Window(NamedTuple):
    """A stretch of a stream.

    Args:
        number: Counted from 0; those that were skipped are counted too.
        start: Its first step, counted from the beginning of the stream.
        data: ``[T, C]``, or the bytes of one frame.
        filled: Steps of it that never came.
    """

    number: int
    start: int
    data: Any
    filled: int


@dataclass
class Counts:
    """What became of the chunks and windows of a stream.

    Args:
        chunks: Chunks that came.
        reordered: Chunks that came after a later one, and in time.
        lost: Chunks that were given up, so that what follows could be answered.
        late: Chunks that came after they had been given up; they are not used.
        repeated: Chunks that had come before.
        filled: Steps that were missing within windows.
        skipped: Windows that lay in a gap longer than a window.
        dropped: Windows that gave way to newer ones, because answering did not keep up.
        answered: Windows that were answered.
    """

    chunks: int = 0
    reordered: int = 0
    lost: int = 0
    late: int = 0
    repeated: int = 0
    filled: int = 0
    skipped: int = 0
    dropped: int = 0
    answered: int = 0

    def to_json(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


class Windows:
    """Windows of ``length`` steps, one every ``hop`` steps. Memory: a window, and the chunks that are held.

    Args:
        reach: Chunks that are held for a missing one, at most; then that one is given up. So an answer waits for no more
            than ``reach`` chunks.
        blank: What stands in a gap: 0 is silence, NaN a reading that is not there.
    """

    def __init__(
        self, length: int, hop: int, *, channels: int = 1, reach: int = 3, blank: float = 0.0, dtype: Any = np.float32
    ) -> None:
        self.length, self.hop, self.reach, self.blank = length, hop, reach, blank
        self.counts = Counts()
        self._buffer: Array = np.zeros((0, channels), dtype)
        self._real = np.zeros(0, np.bool_)
        self._at = 0  # the step of the stream at which the buffer begins
        self._next_window = 0  # its first step
        self._next_chunk = 0
        self._latest = -1  # the largest number that came
        self._held: dict[int, tuple[int, Array]] = {}
        self._given_up: set[int] = set()

    def push(self, number: int, start: int, data: Array) -> list[Window]:
        """A chunk ``[T, C]``, the ``number``-th of the stream, whose first step is ``start``. The windows it completes."""
        self.counts.chunks += 1
        if number < self._next_chunk:
            late = number in self._given_up
            self._given_up.discard(number)
            self.counts.late += late
            self.counts.repeated += not late
            return []
        if number in self._held:
            self.counts.repeated += 1
            return []
        self._held[number] = start, data
        self.counts.reordered += number < self._latest
        self._latest = max(number, self._latest)
        return self._drained(self.reach)

    def end(self) -> list[Window]:
        """No chunk will come any more: the windows that what is held completes."""
        return self._drained(0)

    def _drained(self, reach: int) -> list[Window]:
        found: list[Window] = []
        while self._held:
            if self._next_chunk not in self._held:
                if len(self._held) <= reach:
                    break
                first = min(self._held)
                self.counts.lost += first - self._next_chunk
                # Of a long gap only the last are remembered: the set must not grow with what a client says.
                self._given_up |= set(range(max(self._next_chunk, first - 1000), first))
                if len(self._given_up) > 10_000:
                    self._given_up = {n for n in self._given_up if n >= first - 1000}
                self._next_chunk = first
            start, data = self._held.pop(self._next_chunk)
            self._next_chunk += 1
            self._append(start, data)
            found += self._ready()
        return found

    def _append(self, start: int, data: Array) -> None:
        end = self._at + len(self._buffer)
        gap = start - end
        if gap < 0:
            raise DataError(f"chunk {self._next_chunk - 1} starts at step {start}, and {end} steps have come already")
        if gap > self.length:
            # Nothing of the windows before it is worth an answer; so the buffer never grows by what a header says.
            after = -(-start // self.hop) * self.hop
            self.counts.skipped += max(after - self._next_window, 0) // self.hop
            self._next_window = max(after, self._next_window)
            self._buffer, self._real, self._at = self._buffer[:0], self._real[:0], start
        elif gap:
            hole = np.full((gap, self._buffer.shape[1]), self.blank, self._buffer.dtype)
            self._buffer = np.concatenate([self._buffer, hole])
            self._real = np.concatenate([self._real, np.zeros(gap, np.bool_)])
        self._buffer = np.concatenate([self._buffer, data])
        self._real = np.concatenate([self._real, np.ones(len(data), np.bool_)])

    def _ready(self) -> list[Window]:
        found = []
        while self._next_window + self.length <= self._at + len(self._buffer):
            here = slice(self._next_window - self._at, self._next_window - self._at + self.length)
            filled = int((~self._real[here]).sum())
            self.counts.filled += filled
            found.append(Window(self._next_window // self.hop, self._next_window, self._buffer[here].copy(), filled))
            self._next_window += self.hop
        done = min(max(self._next_window - self._at, 0), len(self._buffer))
        self._buffer, self._real, self._at = self._buffer[done:], self._real[done:], self._at + done
        return found


class Frames:
    """A stream of pictures: each is a window, and one that comes after a later one is of no use any more."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._next = 0

    def push(self, number: int, start: int, data: bytes) -> list[Window]:
        """A frame, the ``number``-th of the stream."""
        self.counts.chunks += 1
        if number < self._next:
            self.counts.late += 1
            return []
        self.counts.lost += number - self._next
        self._next = number + 1
        return [Window(number, start, data, 0)]

    def end(self) -> list[Window]:
        """Nothing is held."""
        return []

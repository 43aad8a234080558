"""Windows from the chunks of a network stream: reordering, filling of gaps and statistics."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from sensorium.core.errors import DataError
from sensorium.core.modality import Array


class Window(NamedTuple):
    """A window of a stream.

    Args:
        number: Its index from 0; skipped windows count too.
        start: Its first step in the stream.
        data: ``[T, C]``, or the bytes of one frame.
        filled: Number of missing steps.
    """

    number: int
    start: int
    data: Any
    filled: int


@dataclass
class Counts:
    """Statistics of the chunks and windows of a stream.

    Args:
        chunks: Chunks received.
        reordered: Chunks received after a later one, but in time.
        lost: Chunks given up, so that later windows could be predicted.
        late: Chunks received after they had been given up; they are not used.
        repeated: Chunks received more than once.
        filled: Missing steps within windows.
        skipped: Windows within a gap longer than a window.
        dropped: Windows dropped for newer ones, because prediction did not keep up.
        answered: Windows predicted.
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
        """Return the counts by name."""
        return asdict(self)


class Windows:
    """Assembles windows from chunks. Memory: one window and the chunks that are held.

    Args:
        length: Steps per window.
        hop: Steps from one window to the next.
        channels: Number of channels.
        reach: Maximum number of chunks held for a missing one before it is given up, which bounds the latency.
        blank: The value of missing steps: 0 for silence, NaN for a missing reading.
        dtype: Data type of the steps.
    """

    def __init__(
        self, length: int, hop: int, *, channels: int = 1, reach: int = 3, blank: float = 0.0, dtype: Any = np.float32
    ) -> None:
        self.length, self.hop, self.reach, self.blank = length, hop, reach, blank
        self.counts = Counts()
        self._buffer: Array = np.zeros((0, channels), dtype)
        self._real = np.zeros(0, np.bool_)
        self._at = 0  # first step of the buffer
        self._next_window = 0  # first step of the next window
        self._next_chunk = 0
        self._latest = -1  # the largest number received
        self._held: dict[int, tuple[int, Array]] = {}
        self._given_up: set[int] = set()

    def push(self, number: int, start: int, data: Array) -> list[Window]:
        """Add chunk ``number`` with its ``data`` (``[T, C]``) from step ``start``; return the windows it completes."""
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
        return self._drain(self.reach)

    @property
    def reached(self) -> int:
        """The step after the last that has arrived, without chunks that are held."""
        return self._at + len(self._buffer)

    def end(self) -> list[Window]:
        """End the stream; return the windows that the held chunks complete."""
        return self._drain(0)

    def _drain(self, reach: int) -> list[Window]:
        windows: list[Window] = []
        while self._held:
            if self._next_chunk not in self._held:
                if len(self._held) <= reach:
                    break
                first = min(self._held)
                self.counts.lost += first - self._next_chunk
                # Remember only the last chunks of a long gap, so that a client cannot make the set grow.
                self._given_up |= set(range(max(self._next_chunk, first - 1000), first))
                if len(self._given_up) > 10_000:
                    self._given_up = {n for n in self._given_up if n >= first - 1000}
                self._next_chunk = first
            start, data = self._held.pop(self._next_chunk)
            self._next_chunk += 1
            self._append(start, data)
            windows += self._take_windows()
        return windows

    def _append(self, start: int, data: Array) -> None:
        end = self._at + len(self._buffer)
        gap = start - end
        if gap < 0:
            raise DataError(f"chunk {self._next_chunk - 1} starts at step {start}, but {end} steps were already received")
        if gap > self.length:
            # Skip the windows within the gap, so that a header cannot make the buffer grow.
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

    def _take_windows(self) -> list[Window]:
        windows = []
        while self._next_window + self.length <= self._at + len(self._buffer):
            span = slice(self._next_window - self._at, self._next_window - self._at + self.length)
            filled = int((~self._real[span]).sum())
            self.counts.filled += filled
            windows.append(Window(self._next_window // self.hop, self._next_window, self._buffer[span].copy(), filled))
            self._next_window += self.hop
        done = min(max(self._next_window - self._at, 0), len(self._buffer))
        self._buffer, self._real, self._at = self._buffer[done:], self._real[done:], self._at + done
        return windows


class Frames:
    """A stream of images: each is a window; images received after a later one are dropped."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._next = 0

    def push(self, number: int, start: int, data: bytes) -> list[Window]:
        """Add frame ``number`` with its file ``data`` at step ``start``; return it as a window unless it is late."""
        self.counts.chunks += 1
        if number < self._next:
            self.counts.late += 1
            return []
        self.counts.lost += number - self._next
        self._next = number + 1
        return [Window(number, start, data, 0)]

    def end(self) -> list[Window]:
        """End the stream; no frames are held."""
        return []

"""Live streams over a websocket: latency from the last sample of a window to its answer, and windows per second."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import REPOSITORY, Measure, Results, Settings
from benchmarks.serving import up

RATE = 16_000
STEPS = 48.0
"""Sample rate of the sensor, in Hz."""


@dataclass(frozen=True)
class Source:
    """A stream to send: its column, samples ``[T, C]``, rate (Hz), samples per chunk, and window and hop (seconds)."""

    column: str
    samples: NDArray[Any]
    rate: float
    chunk: int
    seconds: float = 1.0
    hop: float = 0.25

    def setup(self, *, keep: bool) -> dict[str, Any]:
        return {"column": self.column, "rate": self.rate, "seconds": self.seconds, "hop": self.hop, "keep": keep}

    def chunks(self) -> list[tuple[int, int, bytes]]:
        """Return the number, end step and bytes of each chunk."""
        from sensorium.streaming.stream_session import HEADER

        results = []
        for number, at in enumerate(range(0, len(self.samples), self.chunk)):
            data = self.samples[at : at + self.chunk]
            results.append((number, at + len(data), HEADER.pack(number, at) + data.tobytes()))
        return results

    @property
    def length(self) -> float:
        """Length of the samples, in seconds."""
        return len(self.samples) / self.rate


@dataclass
class StreamAnswers:
    """Latencies, summary and duration (seconds) of one stream."""

    waits: list[float] = field(default_factory=list)
    """Seconds from sending the last sample of each window to its answer."""
    summary: dict[str, Any] = field(default_factory=dict)
    took: float = 0.0


def run(settings: Settings) -> Results:
    seconds, streams = settings.few(30, 2), settings.few(4, 2)
    with tempfile.TemporaryDirectory() as folder:
        _model(Path(folder), settings)
        return asyncio.run(_measured(Path(folder, "run"), seconds, streams))


def _model(folder: Path, settings: Settings) -> None:
    """Train a small model of all streams and save it in ``run``."""
    import sensorium
    from sensorium.data.synthetic import make

    tables = make(folder, rows=settings.few(600, 80), holes=0.2)
    small = ["model.size=tiny", f"training.epochs={settings.few(3, 1)}"]
    model = sensorium.fit(tables["train"], target="event", overrides=small, quiet=True, cache=folder / "cache")
    model.save(folder / "run")


def sound(seconds: float) -> Source:
    """Return a tone of varying pitch in noise, in chunks of 20 ms."""
    rng, at = np.random.default_rng(0), np.arange(round(seconds * RATE)) / RATE
    wave = 0.4 * np.sin(2 * np.pi * (600 * at + 200 * np.sin(at))) + rng.normal(0, 0.02, len(at))
    return Source("sound", (32_767 * wave).astype("<i2")[:, None], RATE, RATE // 50)


def sensor(seconds: float) -> Source:
    """Return readings of three axes, two in each chunk."""
    readings = np.random.default_rng(0).normal(size=(round(seconds * STEPS), 3)).astype("<f4")
    return Source("sensor", readings, STEPS, 2, seconds=2.0)


async def _measured(folder: Path, seconds: float, streams: int) -> Results:
    results: Results = []
    async with _serving(folder) as port:
        await _heard(port, sound(2), keep=True)  # warm
        for source in (sound(seconds), sensor(seconds)):
            alone = await _heard(port, source, pace=1.0)
            name = f"live {source.column}"
            results += _waits(f"{name}, as it is heard", [alone], source)
            fast = await _heard(port, source, keep=True)
            results.append(
                Measure(
                    f"{name}, as fast as it is answered",
                    "s of it a s",
                    source.length / fast.took,
                    at_least=1,
                    note=f"{fast.summary['answered']} windows of {source.seconds:g} s, one every {source.hop:g} s, "
                    f"in {fast.took:.2f} s; real-time factor {fast.summary['real_time_factor']:.3f}",
                )
            )
        crowd = await asyncio.gather(*(_heard(port, sound(seconds), pace=1.0) for _ in range(streams)))
        results += _waits(f"live sound, {streams} at once", crowd, sound(seconds))
        flood = await _heard(port, sound(seconds))
        result = flood.summary
        note = f"{result['answered']} windows answered, {result['dropped']} dropped for newer ones, none later than this"
        results.append(Measure("live sound, sent too fast: latency at most", "ms", 1000 * max(flood.waits), note=note))
        results.append(await _misled(port, sound(seconds)))
    return results


def _waits(name: str, streams: list[StreamAnswers], source: Source) -> list[Measure]:
    waits = [wait for answers in streams for wait in answers.waits]
    p50, p99 = np.percentile(waits, (50, 99)).tolist()
    dropped = sum(answers.summary["dropped"] for answers in streams)
    note = f"{len(waits)} windows of {source.seconds:g} s, {dropped} dropped; from the last sample sent to the answer read"
    return [
        Measure(f"{name}: latency, median", "ms", 1000 * p50, note=note),
        Measure(f"{name}: latency, p99", "ms", 1000 * p99),
    ]


async def _misled(port: int, source: Source) -> Measure:
    """Check that lost, swapped, repeated and late chunks are each counted correctly."""
    chunks = source.chunks()
    sent: list[tuple[int, int, bytes]] = []
    late: dict[int, tuple[int, int, bytes]] = {}
    faults = {"lost": 0, "reordered": 0, "repeated": 0, "late": 0}
    skip = -1
    for i, chunk in enumerate(chunks):
        if i in late:
            sent.append(late.pop(i))
        if i <= skip:
            continue
        phase = i % 40
        if phase == 5 and i + 8 < len(chunks):
            faults["lost"] += 1
        elif phase == 15 and i + 1 < len(chunks):
            sent += [chunks[i + 1], chunk]
            faults["reordered"] += 1
            skip = i + 1
        elif phase == 25:
            sent += [chunk, chunk]
            faults["repeated"] += 1
        elif phase == 30 and i + 8 < len(chunks):
            late[i + 8] = chunk  # later than the server waits: counted as lost, then as late
            faults["lost"] += 1
            faults["late"] += 1
        else:
            sent.append(chunk)
    answers = await _heard(port, source, keep=True, chunks=sent)
    wrong = sum(abs(answers.summary[name] - count) for name, count in faults.items())
    counted = ", ".join(f"{count} {name}" for name, count in faults.items())
    note = f"sent: {counted}; {answers.summary['filled'] / source.rate:.2f} s of silence put in their place"
    return Measure("live sound, chunks lost and mixed up: counted wrongly", "", float(wrong), at_most=0, note=note)


async def _heard(
    port: int,
    source: Source,
    *,
    pace: float | None = None,
    keep: bool = False,
    chunks: list[tuple[int, int, bytes]] | None = None,
) -> StreamAnswers:
    """Send one stream and collect its answers; ``pace`` is the speed relative to real time, None as fast as possible."""
    from websockets.asyncio.client import connect

    answers = StreamAnswers()
    send_times: list[tuple[int, float]] = []
    async with connect(f"ws://127.0.0.1:{port}/stream", max_size=2**22, proxy=None) as stream:
        await stream.send(json.dumps(source.setup(keep=keep)))
        steps = json.loads(await stream.recv())["window_steps"]
        start = time.perf_counter()

        async def send() -> None:
            for _, end, message in chunks or source.chunks():
                if pace is not None:
                    await asyncio.sleep(max(start + end / source.rate / pace - time.perf_counter(), 0))
                send_times.append((end, time.perf_counter()))
                await stream.send(message)
            await stream.send('{"end": true}')

        sending = asyncio.create_task(send())
        async for message in stream:
            now, answer = time.perf_counter(), json.loads(message)
            if "error" in answer:
                raise RuntimeError(answer["error"]["problem"])
            if "summary" in answer:
                answers.summary, answers.took = answer["summary"], now - start
            else:
                last = round(answer["start"] * source.rate) + steps
                answers.waits.append(now - next(when for end, when in send_times if end >= last))
        await sending
    return answers


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[int]:
    """Start a server and yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "sensorium", "serve", str(folder), "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        await up(port)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)

"""A server under load: many clients that send whole, partial, damaged and oversized requests, each answer checked.

Clients run in this process, the server in its own, both on the same cores: the cost of clients is reported beside their
results.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import REPOSITORY, Measure, Results, Settings
from benchmarks.service import worked

MEDIA = ("photo", "sound", "sensor")
BOUNDARY = b"cut-here"
OVERSIZED = 2**30
KINDS = (("whole", 12), ("partial", 5), ("damaged", 2), ("oversized", 1))
"""Number of requests of each kind among twenty; in those of several rows whole and partial ones are mixed as well."""
SEVERAL = 16
Row = dict[str, Any]


@dataclass
class Tally:
    """The results seen by clients."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    rows: int = 0


@dataclass(frozen=True)
class Sent:
    """A request as bytes, and what its answer must be: the very bytes, or a status."""

    data: bytes
    kind: str
    want: bytes | int
    rows: int = 1


@dataclass(frozen=True)
class Load:
    """One load scenario."""

    name: str
    words: tuple[str, ...]
    requests: dict[str, list[Sent]]
    clients: int
    seconds: float


def run(settings: Settings) -> Results:
    clients, seconds = settings.few(64, 4), settings.few(60, 2)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        rows = _model(at, settings)
        from sensorium.artifact import Artifact
        from sensorium.data.files.media_access import UPLOADS_ONLY
        from sensorium.predictor import Predictor

        predictor = Predictor(Artifact.load(at / "run"), device="cpu", media=UPLOADS_ONLY)
        rng = random.Random(0)
        valid = [_some(row, kind, rng) for row in rows for kind, count in KINDS[:2] for _ in range(count)]
        rng.shuffle(valid)
        offline = _offline(predictor, valid[: settings.few(2000, 40)])
        ones, several = [_requests(rows, predictor, n, settings.few(400, 12)) for n in (1, SEVERAL)]
        alone = _requests(rows, predictor, 1, settings.few(400, 12), batch_invariant=False)
        return [
            Measure("the offline predictor on the same rows, raw bytes to answers", "rows/s", offline),
            *asyncio.run(_loaded(at / "run", Load("one row a request", (), ones, clients, seconds), offline)),
            *asyncio.run(
                _loaded(
                    at / "run", Load(f"{SEVERAL} rows a request", ("--queue", "1024"), several, clients, seconds), offline
                )
            ),
            *asyncio.run(
                _loaded(
                    at / "run",
                    Load("a pass a request", ("--merge", "never"), alone, clients, settings.few(20, 2)),
                    offline,
                )
            ),
            *asyncio.run(_loaded(at / "run", Load("one client", (), ones, 1, settings.few(10, 2)), offline)),
        ]


def _offline(predictor: Any, rows: list[Row]) -> float:
    """Rows a second, as ``sensorium predict`` answers them and without its fixed passes: the faster of both."""
    predictor.predict(rows[:64], batch_invariant=True)
    best = 0.0
    for batch_invariant in (True, False, True, False):
        start = time.perf_counter()
        predictor.predict(rows, batch_invariant=batch_invariant)
        best = max(best, len(rows) / (time.perf_counter() - start))
    return best


def _model(folder: Path, settings: Settings) -> list[Row]:
    """A small model of all streams, saved in ``run``; the rows of its test table as a client has them."""
    import sensorium
    from sensorium.data.synthetic import make

    tables = make(folder, rows=settings.few(600, 80), holes=0.0)
    small = ["model.size=tiny", f"training.epochs={settings.few(3, 1)}"]
    model = sensorium.fit(
        tables["train"], target="event", valid=tables["valid"], overrides=small, quiet=True, cache=folder / "cache"
    )
    model.save(folder / "run")
    with open(tables["test"], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        {n: (folder / c).read_bytes() if n in MEDIA else c for n, c in row.items() if c and n != "event"} for row in rows
    ]


def _some(row: Row, kind: str, rng: random.Random) -> Row:
    """A row as requests of a kind have it."""
    if kind == "partial":
        return {name: cell for name, cell in row.items() if rng.random() < 0.5}
    if kind == "damaged":
        return row | {"photo": row["photo"][: rng.randrange(8, len(row["photo"]) // 2)]}
    return row


def _requests(
    rows: list[Row], predictor: Any, each: int, count: int, *, batch_invariant: bool = True
) -> dict[str, list[Sent]]:
    """Requests of ``each`` rows by kind, ``count`` in all, with the answers that must come."""
    rng = random.Random(0)
    results: dict[str, list[Sent]] = {kind: [] for kind, _ in KINDS}
    for i in range(count):
        kind = rng.choices([kind for kind, _ in KINDS], [n for _, n in KINDS])[0] if i >= len(KINDS) else KINDS[i][0]
        mixed = [rng.choices(("whole", "partial"), (12, 5))[0] for _ in range(each - 1)]
        some = [_some(rng.choice(rows), one, rng) for one in [kind, *mixed]]
        want: bytes | int = {"damaged": 422, "oversized": 413}.get(kind, 0)
        if not want:
            answers = [one.to_json() for one in predictor.predict(some, batch_invariant=batch_invariant)]
            options = answers[0] if each == 1 else {"predictions": answers}
            want = json.dumps(options, separators=(",", ":")).encode()
        data = _post(_parts(some[0]) if each == 1 else _listed(some), kind == "oversized")
        results[kind].append(Sent(data, kind, want, each))
    return results


def _parts(row: Row) -> list[tuple[str, Any]]:
    return list(row.items())


def _listed(rows: Sequence[Row]) -> list[tuple[str, Any]]:
    """Several rows: their files as parts, and one part that refers to them."""
    options = [
        {n: {"part": f"{n}{i}"} if isinstance(c, bytes) else c for n, c in row.items()} for i, row in enumerate(rows)
    ]
    files = [(f"{n}{i}", c) for i, row in enumerate(rows) for n, c in row.items() if isinstance(c, bytes)]
    return [("@rows", json.dumps(options)), *files]


def _post(parts: list[tuple[str, Any]], oversized: bool) -> bytes:
    body = b""
    for name, cell in parts:
        file = f'; filename="{name}.bin"' if isinstance(cell, bytes) else ""
        body += b"--" + BOUNDARY + f'\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += (cell if isinstance(cell, bytes) else str(cell).encode()) + b"\r\n"
    body += b"--" + BOUNDARY + b"--\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=" + BOUNDARY
    return head + f"\r\nContent-Length: {OVERSIZED if oversized else len(body)}\r\n\r\n".encode() + body


async def _loaded(folder: Path, load: Load, offline: float) -> list[Measure]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sensorium", "serve", str(folder), "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([*command, *load.words], stdout=subprocess.DEVNULL, env=environment)
    tally, warm = Tally(), Tally()
    try:
        await up(port)
        await _crowd(port, load, load.seconds / 4, warm)
        before, used = _resident(process.pid), (time.process_time(), worked(process.pid))
        start = time.perf_counter()
        await _crowd(port, load, load.seconds, tally)
        took = time.perf_counter() - start
        ours, theirs = time.process_time() - used[0], worked(process.pid) - used[1]
        after = _resident(process.pid)
        alive = process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    wrong = warm.wrong + tally.wrong + ([] if alive else ["the server is gone"])
    ordered = sorted(tally.seconds)
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(tally.statuses.items()))
    note = f"{load.clients} clients for {load.seconds:g} s: {statuses}" + (f"; first wrong: {wrong[0]}" if wrong else "")
    speed, name = tally.rows / took, f"server, {load.name}"
    cost = f"CPU ms a row: server {1000 * theirs / max(tally.rows, 1):.2f}, clients {1000 * ours / max(tally.rows, 1):.2f}"
    crowded = load.clients > 1
    target = 0.8 if crowded and "--merge" not in load.words else None
    return [
        Measure(f"{name}: wrong answers", "", float(len(wrong)), at_most=0, note=note),
        Measure(
            f"{name}: rows answered beside offline", "rows/s", speed, offline, speed / offline, at_least=target, note=cost
        ),
        Measure(f"{name}: latency, median", "ms", 1000 * statistics.median(ordered)),
        Measure(f"{name}: latency, p99", "ms", 1000 * ordered[int(0.99 * (len(ordered) - 1))]),
        Measure(
            f"{name}: memory after beside before, warm",
            "MB",
            after,
            before,
            after / before,
            at_most=1.05 if crowded else None,
        ),
    ]


async def up(port: int) -> None:
    """Until the server takes connections."""
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError("the server did not start")


async def _crowd(port: int, load: Load, seconds: float, tally: Tally) -> None:
    until = time.perf_counter() + seconds
    clients = [_Client(port, load, i, until, tally) for i in range(load.clients)]
    await asyncio.gather(*(client.run() for client in clients))


class _Client(asyncio.Protocol):
    """One client on a connection that it keeps: it sends, reads the answer, checks it, and sends the next."""

    def __init__(self, port: int, load: Load, seed: int, until: float, tally: Tally) -> None:
        self.port, self.load, self.until, self.tally = port, load, until, tally
        self.rng = random.Random(seed)
        self.kinds, self.weights = zip(*KINDS, strict=True)
        self.sent: Sent | None = None
        self.received = b""
        self.start = 0.0
        self.transport: Any = None
        self.over: asyncio.Future[None] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while time.perf_counter() < self.until:
            self.over = loop.create_future()
            try:
                await loop.create_connection(lambda: self, "127.0.0.1", self.port)
            except OSError as error:
                self.tally.wrong.append(f"no connection: {type(error).__name__}")
                await asyncio.sleep(0.1)
                continue
            await self.over

    def connection_made(self, transport: Any) -> None:
        self.transport, self.received = transport, b""
        self._send()

    def _send(self) -> None:
        kind = self.rng.choices(self.kinds, self.weights)[0]
        self.sent = self.rng.choice(self.load.requests[kind])
        self.start = time.perf_counter()
        self.transport.write(self.sent.data)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, mark, body = self.received.partition(b"\r\n\r\n")
        if not mark:
            return
        lowered = head.lower()
        length = int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length or self.sent is None:
            return
        self.received = b""
        self.tally.seconds.append(time.perf_counter() - self.start)
        status = int(head[9:12])
        self.tally.statuses[f"{status} ({self.sent.kind})"] += 1
        self.tally.rows += self.sent.rows * (status == 200)
        if not _right(self.sent, status, body):
            self.tally.wrong.append(f"{self.sent.kind}: {status} {body[:200]!r}")
        self.sent = None
        if time.perf_counter() >= self.until or b"connection: close" in lowered:
            self.transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent is not None:
            self.tally.wrong.append(f"{self.sent.kind}: the connection was closed ({error})")
            self.sent = None
        if self.over is not None and not self.over.done():
            self.over.set_result(None)


def _right(sent: Sent, status: int, body: bytes) -> bool:
    """Whether an answer is the right one, to the last bit; a server that is too busy may say so."""
    if status == 200:
        return body == sent.want
    return (status in (429, 503) or status == sent.want) and "problem" in json.loads(body)["error"]


def _resident(pid: int) -> float:
    """Megabytes of memory that a process holds."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

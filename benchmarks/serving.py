"""A server under load: many clients that send whole, partial, damaged and oversized requests, each answer checked."""

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import REPOSITORY, Measure, Results, Settings

MEDIA = ("photo", "sound", "sensor")
BOUNDARY = "cut-here"
OVERSIZED = 2**30
KINDS = (("whole", 12), ("partial", 5), ("damaged", 2), ("oversized", 1))
"""Of twenty requests, so many of each kind."""


@dataclass
class Tally:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    rows: int = 0


@dataclass(frozen=True)
class Sent:
    """A request as bytes, and what its answer must be: targets, or a status."""

    data: bytes
    kind: str
    want: Any


def run(settings: Settings) -> Results:
    clients, seconds = settings.few(64, 4), settings.few(60, 2)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        rows = _model(at, settings)
        from sensorium.artifact import Artifact
        from sensorium.data.media import NONE
        from sensorium.predictor import Predictor

        predictor = Predictor(Artifact.load(at / "run"), device="cpu", media=NONE)
        requests = _requests(rows, predictor)
        many = (rows * (1 + 2000 // len(rows)))[: settings.few(2000, len(rows))]
        predictor.predict(rows)
        start = time.perf_counter()
        predictor.predict(many)
        offline = len(many) / (time.perf_counter() - start)
        results: Results = []
        for mode in ("exact", "merge"):
            results += asyncio.run(_loaded(at / "run", mode, requests, clients, seconds, offline))
    return results


def _model(folder: Path, settings: Settings) -> list[dict[str, Any]]:
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


def _requests(rows: list[dict[str, Any]], predictor: Any) -> list[Sent]:
    rng = random.Random(0)
    found = []
    for i, row in enumerate(rows):
        for kind, count in KINDS:
            for _ in range(count if i < 20 else 1):
                kept = dict(row)
                if kind == "partial":
                    kept = {name: cell for name, cell in row.items() if rng.random() < 0.5}
                want: Any = {"whole": None, "partial": None, "damaged": 422, "oversized": 413}[kind]
                if kind == "damaged":
                    kept["photo"] = row["photo"][: rng.randrange(8, len(row["photo"]) // 2)]
                if want is None:
                    want = predictor.predict([kept])[0].to_json()["targets"]
                found.append(Sent(_post(kept, kind == "oversized"), kind, want))
    return found


def _post(row: dict[str, Any], oversized: bool) -> bytes:
    parts = b""
    for name, cell in row.items():
        file = f'; filename="{name}.bin"' if isinstance(cell, bytes) else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts += head.encode() + (cell if isinstance(cell, bytes) else str(cell).encode()) + b"\r\n"
    body = parts + f"--{BOUNDARY}--\r\n".encode()
    length = OVERSIZED if oversized else len(body)
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    return head.encode() + f"Content-Length: {length}\r\n\r\n".encode() + body


async def _loaded(
    folder: Path, mode: str, requests: list[Sent], clients: int, seconds: float, offline: float
) -> list[Measure]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sensorium", "serve", str(folder), "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [*command, *(["--merge"] if mode == "merge" else [])], stdout=subprocess.DEVNULL, env=environment
    )
    try:
        await _up(port)
        tally = Tally()
        warm = Tally()
        await _crowd(port, mode, requests, clients, seconds / 4, warm)
        before = _resident(process.pid)
        start = time.perf_counter()
        await _crowd(port, mode, requests, clients, seconds, tally)
        took = time.perf_counter() - start
        after = _resident(process.pid)
        alive = process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    tally.wrong += warm.wrong
    if not alive:
        tally.wrong.append("the server is gone")
    ordered = sorted(tally.seconds)
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(tally.statuses.items()))
    note = f"{clients} clients for {seconds:g} s: {statuses}" + (f"; first wrong: {tally.wrong[0]}" if tally.wrong else "")
    speed = tally.rows / took
    return [
        Measure(f"server, {mode}: wrong answers", "", float(len(tally.wrong)), at_most=0, note=note),
        Measure(f"server, {mode}: rows answered beside offline", "rows/s", speed, offline, speed / offline),
        Measure(f"server, {mode}: latency, median", "ms", 1000 * statistics.median(ordered)),
        Measure(f"server, {mode}: latency, p99", "ms", 1000 * ordered[int(0.99 * (len(ordered) - 1))]),
        Measure(f"server, {mode}: memory grown after warm-up", "MB", max(after - before, 0.0), note=f"to {after:.0f} MB"),
    ]


async def _up(port: int) -> None:
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError("the server did not start")


async def _crowd(port: int, mode: str, requests: list[Sent], clients: int, seconds: float, tally: Tally) -> None:
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_client(port, mode, requests, i, until, tally) for i in range(clients)))


async def _client(port: int, mode: str, requests: list[Sent], seed: int, until: float, tally: Tally) -> None:
    rng = random.Random(seed)
    kinds, weights = zip(*KINDS, strict=True)
    by_kind = {kind: [one for one in requests if one.kind == kind] for kind in kinds}
    reader = writer = None
    while time.perf_counter() < until:
        sent = rng.choice(by_kind[rng.choices(kinds, weights)[0]])
        if reader is None or writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        start = time.perf_counter()
        try:
            writer.write(sent.data)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(next(v for k, v in _headers(head) if k == "content-length"))
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            tally.wrong.append(f"{sent.kind}: {type(error).__name__}")
            reader = writer = None
            continue
        tally.seconds.append(time.perf_counter() - start)
        status = int(head.split(b" ", 2)[1])
        tally.statuses[f"{status} ({sent.kind})"] += 1
        tally.rows += status == 200
        if not _right(sent, status, json.loads(body), mode):
            tally.wrong.append(f"{sent.kind}: {status} {body[:200]!r}")
        if status in (413, 408, 415) or any(k == "connection" and v == "close" for k, v in _headers(head)):
            writer.close()
            reader = writer = None
    if writer is not None:
        writer.close()


def _headers(head: bytes) -> list[tuple[str, str]]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return [(key.lower(), value.strip()) for key, _, value in (line.partition(":") for line in lines if line)]


def _right(sent: Sent, status: int, said: Any, mode: str) -> bool:
    """Whether an answer is the right one; a server that is too busy may say so."""
    if status in (429, 503):
        return "problem" in said["error"]
    if isinstance(sent.want, int):
        return status == sent.want and "problem" in said["error"]
    if status != 200:
        return False
    if mode == "exact":
        return bool(said["targets"] == sent.want)
    close = [
        abs(chance - said["targets"][name]["probabilities"][label]) < 1e-5
        for name, answer in sent.want.items()
        for label, chance in answer["probabilities"].items()
    ]
    return all(close)


def _resident(pid: int) -> float:
    """Megabytes of memory that a process holds."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

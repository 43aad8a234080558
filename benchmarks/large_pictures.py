"""Effect on other clients of pictures that are small files but huge once decoded: 8000 × 8000 pixels of 16 bits, RGBA.

32 such rows are in flight all the time while another client sends small rows one after the other.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks.bombs import huge_png
from benchmarks.measure import Measure, Results, Settings
from benchmarks.service import Service, form, serving
from benchmarks.serving import Row, _model

FLIGHT = 32


def run(settings: Settings) -> Results:
    side, seconds = settings.few(8000, 800), float(settings.few(30, 2))
    big = huge_png(side, side)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        rows = _model(at, settings)
        results: Results = []
        for name, rows_per_request, words in (
            ("a row a request", 1, ()),
            ("8 rows a request", 8, ()),
            ("8 rows a request, allowed by --max-request-pixels", 8, ("--max-request-pixels", str(2**30))),
        ):
            results += measured(at / "run", rows, big, name, rows_per_request, words, seconds)
        return results


def measured(
    folder: Path, rows: list[Row], big: bytes, name: str, rows_per_request: int, words: tuple[str, ...], seconds: float
) -> list[Measure]:
    """Measure the latency of the other client and the memory of the server for one way of sending the pictures."""
    listed = json.dumps([{"photo": {"part": "big"}}] * rows_per_request)
    hostile = form([("@rows", listed.encode(), False), ("big", big, True)])
    small = [
        form([(n, c if isinstance(c, bytes) else c.encode(), isinstance(c, bytes)) for n, c in row.items()]) for row in rows
    ]
    statuses: Counter[int] = Counter()
    with serving(folder, *words) as service:
        waited = _asked(service, small, 2.0)
        quiet, before = statistics.median(waited), service.memory("VmRSS")
        over = threading.Event()
        threads = [
            threading.Thread(target=_again, args=(service, hostile, over, statuses), daemon=True)
            for _ in range(FLIGHT // rows_per_request)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        waited = sorted(_asked(service, small, seconds))
        over.set()
        for thread in threads:
            thread.join(60)
        time.sleep(8)  # a row that is being decoded is finished
        _asked(service, small, 0.5)
        peak, after = service.memory("VmHWM"), service.memory("VmRSS")
    p99 = waited[int(0.99 * (len(waited) - 1))]
    answered = ", ".join(f"{count} × {status or 'none'}" for status, count in sorted(statuses.items()))
    note = f"large ones: {answered}; without them the median was {1000 * quiet:.1f} ms"
    head = f"huge pictures, {name}: another client's"
    return [
        Measure(f"{head} latency, median", "ms", 1000 * statistics.median(waited), note=note),
        Measure(f"{head} latency, p99", "ms", 1000 * p99, at_most=1000),
        Measure(f"{head} latency, longest", "ms", 1000 * waited[-1]),
        Measure(f"huge pictures, {name}: memory at most", "MB", peak, before),
        Measure(f"huge pictures, {name}: memory afterwards", "MB", after, before),
    ]


def _asked(service: Service, small: list[tuple[bytes, str]], seconds: float) -> list[float]:
    """Return the seconds of each answer to small rows that are sent one after the other."""
    results, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        body, kind = small[len(results) % len(small)]
        start = time.perf_counter()
        status, answer = service.post("/predict", body, kind)
        if status != 200:
            raise RuntimeError(f"a small row was answered with {status}: {answer[:200]!r}")
        results.append(time.perf_counter() - start)
        time.sleep(0.005)
    return results


def _again(service: Service, hostile: tuple[bytes, str], over: threading.Event, statuses: Counter[int]) -> None:
    while not over.is_set():
        status, _ = service.post("/predict", *hostile)
        statuses[status] += 1
        if status != 200:
            time.sleep(0.2)

"""The report of an evaluation of many rows: how large it is, and how long a browser takes to open it."""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import browser
from benchmarks.measure import Measure, Results, Settings

ROWS = 10_000
SLOW = 4
"""Times slower than this machine: about a telephone."""


def run(settings: Settings) -> Results:
    rows = settings.few(ROWS, 60)
    with tempfile.TemporaryDirectory() as folder:
        took = written(Path(folder), rows, settings)
        page = Path(folder, "report.html")
        size = page.stat().st_size / 1e6
        name = f"report of {rows:,} rows"
        found = browser.found()
        note = "" if found else "no browser on this machine: how long it takes to open was not measured"
        results: Results = [
            Measure(f"{name}: size", "MB", size, at_most=13, note=note),
            Measure(f"{name}: evaluated, explained and written", "s", took),
        ]
        if found:
            results += opened(page, name, settings)
    return results


def written(folder: Path, rows: int, settings: Settings) -> float:
    """``report.html`` of a small model of pictures, sounds, series, texts and numbers, with three targets; the seconds."""
    import sensorium
    from sensorium.data.synthetic import make

    tables = make(folder, rows=settings.few(600, 80), targets=("event", "cost", "tags"), damage=True)
    small = ["model.size=tiny", f"training.epochs={settings.few(4, 1)}"]
    targets = ["event", "cost", "tags"]
    model = sensorium.fit(tables["train"], target=targets, overrides=small, quiet=True, cache=folder / "cache")
    with tables["test"].open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    many = folder / "many.csv"
    with many.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, known[0])
        writer.writeheader()
        # Few files, many rows: what a page shows does not depend on how many there were.
        writer.writerows(known[i % len(known)] for i in range(rows))
    start = time.perf_counter()
    model.evaluate(many, report=folder / "report.html")
    return time.perf_counter() - start


def opened(path: Path, name: str, settings: Settings) -> list[Measure]:
    """The time to open a page beside an empty one, in turn; and both on a machine made slower."""
    empty = path.with_name("empty.html")
    empty.write_text("<!DOCTYPE html><title>empty</title>", encoding="utf-8")
    found = []
    with browser.page() as page:
        for where, rate in (("", 1), (f", on a machine {SLOW} times slower", SLOW)):
            page.ask("Emulation.setCPUThrottlingRate", rate=rate)
            pairs = [(page.opened(path.as_uri()), page.opened(empty.as_uri())) for _ in range(settings.few(7, 1))]
            times = [one for one, _ in pairs]
            nothing = statistics.median(other for _, other in pairs)
            note = f"an empty page {nothing:.3f} s; the first time, with nothing warm, {times[0]:.2f} s"
            seconds = statistics.median(times)
            spread = (min(times), max(times))
            found.append(Measure(f"{name}: opens{where}", "s", seconds, nothing, spread=spread, at_most=2, note=note))
    return found
